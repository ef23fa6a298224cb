# SPDX-License-Identifier: MIT
"""An object service for tests: moto_server, a process of its own on 127.0.0.1."""

import os
import re
import signal
import subprocess
import threading
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.request import ProxyHandler, Request, build_opener

import boto3
from botocore.config import Config
from conftest import SCRIPTS, STOP_S

ANSWER_S = 60
BUCKET = "disks"
# For everyone who talks to it: nothing of the user's own, and no way out of this machine.
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "no_proxy": "127.0.0.1",
}


class S3Service:
    """It has its objects in memory.  With a recording they come back when it starts again."""

    def __init__(self, recording: Path | None = None) -> None:
        self._recording = recording
        self._port = 0
        self._process: subprocess.Popen[str] | None = None
        self._log = threading.Thread()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """The first time with an empty bucket; after kill() on the same port, with what it had."""
        environment = {**os.environ, **ENVIRONMENT}
        if self._recording:
            environment["MOTO_RECORDER_FILEPATH"] = str(self._recording)
            environment["MOTO_ENABLE_RECORDING"] = "1"
        program = [SCRIPTS / "moto_server", "-H", "127.0.0.1", "-p", str(self._port)]
        self._process = subprocess.Popen(
            ["setpriv", "--pdeathsig", "KILL", "--", *program],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        again, self._port = self._port != 0, self._wait_for_port()
        if again:
            self._replay()
        else:
            with closing(self.client()) as client:
                client.create_bucket(Bucket=BUCKET)

    def _wait_for_port(self) -> int:
        assert self._process is not None
        lines = self._process.stderr
        assert lines is not None
        for line in lines:
            if found := re.search(r"Running on http://127\.0\.0\.1:(\d+)", line):
                # It tells of each request from here on, and must not wait for a reader.
                self._log = threading.Thread(target=lambda: [None for _ in lines])
                self._log.start()
                return int(found[1])
        raise AssertionError(f"moto_server ended with {self._process.wait(STOP_S)}")

    def _replay(self) -> None:
        url = f"{self.url}/moto-api/recorder/replay-recording"
        with build_opener(ProxyHandler({})).open(Request(url, method="POST"), timeout=ANSWER_S):
            pass

    def kill(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(STOP_S)
        if self._log.ident:
            self._log.join(STOP_S)
        assert self._process.stderr is not None
        self._process.stderr.close()
        self._process = None

    def freeze(self) -> None:
        """It keeps its connections and answers nothing until thaw()."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def client(self) -> Any:
        """To look at the objects past any store; close() it."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            region_name=ENVIRONMENT["AWS_DEFAULT_REGION"],
            aws_access_key_id=ENVIRONMENT["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=ENVIRONMENT["AWS_SECRET_ACCESS_KEY"],
            config=Config(proxies={}, retries={"total_max_attempts": 1}),
        )
