"""A venue's certificate is verified."""

from __future__ import annotations

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from bookrunner.core.clock import SystemClock
from bookrunner.core.errors import ConnectionLostError
from bookrunner.venues.transport.websocket import WebSocketFactory, WebSocketSettings
from transport_rig import Recorder, Venue, dice, plan, policy, run_on, until
from websocket_rig import BIG, loops


@pytest.mark.parametrize("loop_factory", loops())
def test_certificates_are_verified(loop_factory: Any, tmp_path: Path) -> None:
    certificate, key = _self_signed(tmp_path)
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    served.load_cert_chain(certificate, key)

    async def test(_loop: asyncio.AbstractEventLoop) -> None:
        venue, recorder = Venue(), Recorder()
        await venue.start(ssl=served)
        address = plan(venue.url.replace("ws://127.0.0.1", "wss://localhost"))
        doubting = WebSocketFactory(SystemClock(), dice(), WebSocketSettings(max_retries=0))
        with pytest.raises(ConnectionLostError, match="CERTIFICATE_VERIFY_FAILED"):
            await doubting(address, policy(), recorder).run()
        assert recorder.connected == 0

        trusting = WebSocketSettings(ssl_context=ssl.create_default_context(cafile=certificate))
        client = WebSocketFactory(SystemClock(), dice(), trusting)(address, policy(), recorder)
        running = asyncio.create_task(client.run())
        await until(lambda: recorder.connected)
        venue.peers[-1].send(BIG)
        await until(lambda: recorder.messages == [BIG])
        await client.close()
        await running
        await venue.stop()

    run_on(loop_factory, test, expected_problem="SSL handshake failed")


def _self_signed(folder: Path) -> tuple[Path, Path]:
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl command to make a certificate with")
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = f"{openssl} req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1"
    command += " -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
