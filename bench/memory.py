"""The memory that a process needs while it handles what clients send, as a multiple of its size.

    python bench/memory.py retrieval [--mb 100 300]

Each line is measured in a new process: what it needs before (base), at most (peak), and (peak - base) / size.
The size of a model is that of its arrays.

`retrieval`: the reconciler's retrieval of trained models, with the real clients of nodes and of S3. A second
process serves the models, and S3 over TLS. Several models that are due are retrieved from several threads.
"""

import argparse
import ipaddress
import os
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent.parent), str(Path(__file__).parent.parent / "src")]

HOST = "127.0.0.1"
MB = 1_000_000
BUCKETS = ("models", "refusing", "closing")


def main() -> None:
    """Run the measurement that the first argument names."""
    parser = argparse.ArgumentParser(description="Memory as a multiple of what is handled.")
    commands = parser.add_subparsers(required=True)
    retrieval = commands.add_parser("retrieval", help="retrieval of trained models")
    retrieval.add_argument("--mb", type=int, nargs="+", default=[100, 300], help="sizes of float32 models")
    retrieval.add_argument(
        "--zeros", type=int, nargs="*", default=[38], help="MB of int64 zeros, 1 byte each"
    )
    retrieval.add_argument("--due", type=int, default=3, help="models that are due at once, beside one")
    retrieval.set_defaults(run=measure_retrieval)
    serving = commands.add_parser("serve")  # the child processes
    serving.add_argument("directory", type=Path)
    serving.add_argument("dtype")
    serving.add_argument("mb", type=int)
    serving.set_defaults(run=serve)
    retrieving = commands.add_parser("retrieve")
    retrieving.add_argument("directory", type=Path)
    retrieving.add_argument("due", type=int)
    retrieving.add_argument("bucket")
    retrieving.set_defaults(run=retrieve)
    options = parser.parse_args()
    options.run(options)


def in_memory(name: str) -> int:
    """Return `VmRSS` or `VmHWM` (its maximum) of this process in bytes.

    Not `ru_maxrss` of resource.getrusage: it starts with the maximum of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith(name))


def child(*arguments: object) -> subprocess.Popen[str]:
    """Start this script in a new process."""
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603


# Retrieval


def measure_retrieval(options: argparse.Namespace) -> None:
    """Print a line for each model and number of models that are due."""
    print(f"{'model':22} {'due':>3} {'bucket':9} {'base MB':>8} {'peak MB':>8} {'ratio':>6}  stored")
    for dtype, mb in [("float32", mb) for mb in options.mb] + [("int64", mb) for mb in options.zeros]:
        with served(dtype, mb) as directory:
            for due, bucket in ((1, "models"), *((options.due, each) for each in BUCKETS)):
                process = child("retrieve", directory, due, bucket)
                _, *lines = ["", *process.communicate()[0].splitlines()]  # the last one, after the log
                name = f"{dtype} {mb} MB"
                if process.returncode:
                    print(f"{name:22} {due:3} {bucket:9} died with status {process.returncode}")
                    continue
                base, peak, stored = map(int, lines[-1].split())
                decoded = mb * MB * (8 if dtype == "int64" else 1)
                ratio = (peak - base) / decoded
                print(
                    f"{name:22} {due:3} {bucket:9} {base / MB:8.0f} {peak / MB:8.0f} {ratio:6.2f}  {stored}"
                )


@contextmanager
def served(dtype: str, mb: int) -> Iterator[Path]:
    """Serve a model of this size on the wire, and S3; return the directory with ports and certificate."""
    with tempfile.TemporaryDirectory() as directory:
        process = child("serve", directory, dtype, mb)
        try:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise SystemExit("The server has not started.")
            yield Path(directory)
        finally:
            process.kill()
            process.wait()


def serve(options: argparse.Namespace) -> None:
    """Serve as a node and as S3."""
    import numpy as np

    from pygrid_wire import encode_state

    size = options.mb * MB
    values = np.zeros(size, np.int64) if options.dtype == "int64" else np.ones(size // 4, np.float32)
    Node.state = encode_state([values])
    node, s3 = ThreadingHTTPServer((HOST, 0), Node), ThreadingHTTPServer((HOST, 0), S3)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(options.directory))
    s3.socket = context.wrap_socket(s3.socket, server_side=True)
    (options.directory / "ports").write_text(f"{node.server_port} {s3.server_port}")
    for server in (node, s3):
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


class Node(BaseHTTPRequestHandler):
    """A node all of whose checkpoints are the same."""

    state = b""

    def do_GET(self) -> None:
        """Send the checkpoint."""
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.state)))
        self.end_headers()
        self.wfile.write(self.state)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


class S3(BaseHTTPRequestHandler):
    """S3 that keeps nothing. The bucket `refusing` refuses files, `closing` closes the connection."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Read a file, in aws-chunked encoding if it has no length."""
        if self.path.startswith("/closing/"):
            self.close_connection = True
            return
        if "Content-Length" in self.headers:
            self.discard(int(self.headers["Content-Length"]))
        else:
            while size := int(self.rfile.readline(), 16):
                self.discard(size)
                self.rfile.readline()
            self.rfile.readline()
        refused = self.path.startswith("/refusing/")
        body = b"<Error><Code>AccessDenied</Code></Error>" if refused else b""
        self.send_response(403 if refused else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def discard(self, size: int) -> None:
        """Read so many bytes."""
        while size:
            size -= len(self.rfile.read(min(size, 1 << 20)))

    def log_message(self, *_: object) -> None:
        """Log nothing."""


def certificate(directory: Path) -> Path:
    """Write a certificate for the loopback address, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    path = directory / "certificate.pem"
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + signed.public_bytes(pem))
    return path


def retrieve(options: argparse.Namespace) -> None:
    """Retrieve the models that are due, each on its own node; print the memory and how many are stored."""
    import boto3
    import numpy as np

    from orchestration import aws
    from orchestration.adapters.model_bucket import S3ModelBucket
    from orchestration.adapters.pygrid import PygridServer
    from orchestration.control.collect import Retrieval
    from pygrid_wire import encode_state
    from tests.builders import a_model, a_node
    from tests.fakes import World
    from tests.processes import LINKS

    node_port, s3_port = map(int, (options.directory / "ports").read_text().split())
    client = boto3.client(
        "s3",
        region_name="us-east-1",
        endpoint_url=f"https://{HOST}:{s3_port}",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
        verify=str(options.directory / "certificate.pem"),
        config=aws.CONFIG_PRESIGNING,
    )
    world = World()
    retrieval = Retrieval(
        models=world.models,
        server=PygridServer(local_mode=True, port=node_port),
        secrets=world.secrets,
        bucket=S3ModelBucket(client, options.bucket),
        link_of=LINKS.link,
        audit=world.audit,
        clock=time.time,
    )
    nodes = [a_node(f"dataset {number}", generation=1) for number in range(options.due)]
    for node in nodes:
        world.put(
            a_model(model_id=node.node_id, dataset_id=node.dataset_id, is_active=False, retrieval_due=True)
        )
        world.secrets.ensure(node)
    S3ModelBucket(client, "models").store(
        a_model(), encode_state([np.zeros(1)])
    )  # connects for the first time
    base = in_memory("VmRSS")
    threads = [threading.Thread(target=retrieval.retrieve_due, args=(node, HOST)) for node in nodes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stored = sum(world.models.get(node.node_id).download_key is not None for node in nodes)
    for node in nodes:
        if error := (world.item("model_table", node.node_id) or {}).get("retrieval_error"):
            print(error, file=sys.stderr)
    print(base, in_memory("VmHWM"), stored)


if __name__ == "__main__":
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    main()
