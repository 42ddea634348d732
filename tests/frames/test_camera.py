"""A live camera, played by an MJPEG server on this machine."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from cropseg_edge.errors import FrameError
from cropseg_edge.frames import open_source

PERIOD_S = 0.02


class _Camera(BaseHTTPRequestHandler):
    jpeg: bytes
    frames: int

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        pause = threading.Event()
        try:
            for _ in range(self.frames):
                self.wfile.write(
                    b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: "
                    + str(len(self.jpeg)).encode()
                    + b"\r\n\r\n"
                    + self.jpeg
                    + b"\r\n"
                )
                pause.wait(PERIOD_S)
        except OSError:
            pass  # the reader has gone

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def camera(jpeg: bytes) -> Iterator[str]:
    _Camera.jpeg, _Camera.frames = jpeg, 40
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Camera)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/stream.mjpeg"
    server.shutdown()
    server.server_close()


def test_a_camera_gives_frames_until_it_is_closed(camera: str) -> None:
    source = open_source(camera)
    before = time.time_ns()
    frames = []
    for frame in source:
        frames.append(frame)
        if len(frames) == 5:
            source.close()
    source.close()
    assert len(frames) in (5, 6)  # one more may have been waiting
    assert frames[0].image.shape == (48, 64, 3)
    sequences = [frame.sequence for frame in frames]
    assert sequences == sorted(set(sequences))
    assert abs(frames[-1].stamp_ns - before) < 10e9


def test_a_camera_that_goes_away_is_an_error(camera: str) -> None:
    source = open_source(camera)
    with pytest.raises(FrameError, match="ended its stream"):
        list(source)
    source.close()
