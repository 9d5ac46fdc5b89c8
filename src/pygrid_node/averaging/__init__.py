"""How the diffs of a cycle become one."""
