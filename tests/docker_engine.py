"""The Docker engine as tests get it: the fixture `docker_engine`.

A test that asks for it is skipped, with the reason, where no engine answers or the images are not
built, and fails there with REQUIRE_DOCKER=1.
"""

import os
import shutil
import subprocess
from typing import NoReturn

import pytest

IMAGES = ("grotto-sandbox:bare", "grotto-sandbox:data", "grotto-control:latest")


class DockerEngine:
    """The engine's own command line, without anything of ours in between."""

    def docker(self, *words: str) -> str:
        """Returns what the command printed; AssertionError with its complaint."""
        done = subprocess.run(["docker", *words], capture_output=True, text=True)
        assert done.returncode == 0, f"docker {' '.join(words)[:200]}: {done.stderr}"
        return done.stdout.strip()


@pytest.fixture(scope="session")
def docker_engine() -> DockerEngine:
    """The engine of this machine, with the images in it."""
    if shutil.which("docker") is None:
        without("there is no docker command")
    asked = ["docker", "version", "--format", "{{.Server.Version}}"]
    if subprocess.run(asked, capture_output=True).returncode:
        without("no Docker engine answers")
    for image in IMAGES:
        asked = ["docker", "image", "inspect", image]
        if subprocess.run(asked, capture_output=True).returncode:
            without(f"the image {image} is not built; `make image` builds it")
    return DockerEngine()


def without(reason: str) -> NoReturn:
    if os.environ.get("REQUIRE_DOCKER"):
        pytest.fail(f"REQUIRE_DOCKER is set, and {reason}", pytrace=False)
    pytest.skip(reason)
