"""The commands beside `serve`, as processes."""

import subprocess
from pathlib import Path

from tests.e2e.process import PATIENCE, command, environment


def test_a_fresh_user_has_one_model(tmp_path: Path) -> None:
    done = subprocess.run(
        command("check"), cwd=tmp_path, env=environment(tmp_path), capture_output=True, text=True, check=False
    )
    assert (0, "The configuration is fine: 1 name for 1 model.\n", "") == (done.returncode, done.stdout, done.stderr)


def test_whoever_has_read_enough_may_close_the_pipe(tmp_path: Path) -> None:
    process = subprocess.Popen(
        command("config"),
        cwd=tmp_path,
        env=environment(tmp_path),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    _, said = process.communicate(timeout=PATIENCE)
    assert (0, "") == (process.returncode, said)
