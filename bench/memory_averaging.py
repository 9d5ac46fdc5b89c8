"""The memory in which a node averages two reports, as a multiple of the model's size.

    python bench/memory_averaging.py [--mb 4 100]

Each line is measured in a new process, by the averaging of an upload:

- `mean`: without an averaging plan; `library`: with the plan that artificienlib sends, which is the mean;
- `live`: with a plan that calculates 199 arrays and then adds them up;
- `int8`: without a plan, one byte a number.

`refused` is what the node answers at the upload.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

KINDS = ("mean", "library", "live", "int8")
LIVE = 199
MB = 1_000_000


def main() -> None:
    """Measure each kind and size in a child process, or one of them in this one."""
    parser = argparse.ArgumentParser(description="Memory of averaging as a multiple of the model.")
    parser.add_argument("--mb", type=int, nargs="+", default=[4, 100], help="sizes of the model")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.kind:
        average(options.kind, options.mb[0] * MB)
        return
    print(f"{'model':>6} {'averaged by':12} {'base MB':>8} {'peak MB':>8} {'ratio':>6}")
    for mb in options.mb:
        for kind in KINDS:
            command = [sys.executable, __file__, "--kind", kind, "--mb", str(mb)]
            child = subprocess.run(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - this file
            *_, last = ["", *child.stdout.splitlines()]  # after the log
            if child.returncode or last.startswith("refused"):
                print(f"{mb:3} MB {kind:12} {last if not child.returncode else f'status {child.returncode}'}")
                continue
            base, peak = map(int, last.split())
            print(f"{mb:3} MB {kind:12} {base / MB:8.0f} {peak / MB:8.0f} {(peak - base) / (mb * MB):6.2f}")


def average(kind: str, size: int) -> None:
    """Upload a model, count two diffs and close the cycle; print the memory before and at most, in bytes."""
    import numpy as np

    from pygrid_node.__main__ import _return_freed_memory
    from pygrid_node.averaging.closing import CycleCloser
    from pygrid_node.entities import Worker
    from pygrid_node.errors import InvalidRequest
    from pygrid_node.storage.cycles import CycleStore
    from pygrid_node.storage.database import Database
    from pygrid_node.storage.models import ModelStore
    from pygrid_node.uploads import read_upload
    from pygrid_wire import encode_state

    _return_freed_memory()
    recorded = ROOT / "tests" / "data" / "pygrid" / "linear-noavg" / "upload.request.json"
    upload = json.loads(recorded.read_text())["data"]
    upload["server_config"] |= {"max_diffs": 2, "iterative_plan": True}
    upload["averaging_plan"] = {"library": _mean, "live": _live}.get(kind, lambda: b"")().hex()
    values = np.ones(size, np.int8) if kind == "int8" else np.ones(size // 4, np.float32)
    diff = encode_state([values])
    upload["model"] = diff.hex()
    with tempfile.TemporaryDirectory() as directory:
        database = Database(f"sqlite:///{directory}/db")
        models, cycles = ModelStore(database), CycleStore(database)
        try:
            models.add(read_upload(upload), now=0.0)
        except InvalidRequest as error:
            print(f"refused: {error}")
            return
        cycle = cycles.open_cycle(1)
        assert cycle
        for name in ("a", "b"):
            worker = Worker(name, 1)
            cycles.add_worker(worker)
            cycles.assign(worker, cycle, "key", now=0.0, expires_at=1.0, max_workers=None)
            [assignment] = cycles.assignments(name)
            cycles.count_diff(assignment, diff, now=0.0)
        upload.clear()
        del values, diff
        base = _reset_peak()
        for _ in CycleCloser(models, cycles).close(cycle.id):
            pass
        print(base, _in_memory("VmHWM"))
        database.close()


def _mean() -> bytes:
    """Return a plan like artificienlib's: `(average * number + diff) / (number + 1)`."""
    from pygrid_wire import syft_pb2 as pb
    from tests.pygrid_node.averaging.test_plans import plan

    one = pb.Arg(arg_int=1)
    steps = (("__mul__", 4, 1, 3), ("__add__", 5, 4, 2), ("__add__", 6, 3, one), ("__truediv__", 7, 5, 6))
    return plan(*steps, inputs=[1, 2, 3], outputs=[7]).SerializeToString()


def _live() -> bytes:
    from pygrid_wire import syft_pb2 as pb
    from tests.pygrid_node.averaging.test_plans import plan

    live = [("add", 100 + number, 1, pb.Arg(arg_int=number)) for number in range(LIVE)]
    sums = [("add", 1000 + number, 2 if not number else 999 + number, 100 + number) for number in range(LIVE)]
    return plan(*live, *sums, inputs=[1, 2, 3], outputs=[999 + LIVE]).SerializeToString()


def _reset_peak() -> int:
    """Let the maximum of this process's memory start again; return its memory now, in bytes."""
    Path("/proc/self/clear_refs").write_text("5")
    return _in_memory("VmRSS")


def _in_memory(entry: str) -> int:
    """Return `VmRSS`, or `VmHWM`, its maximum, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(entry))


if __name__ == "__main__":
    main()
