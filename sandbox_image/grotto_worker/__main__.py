"""`python -I -m grotto_worker FD`: the zygote, on the socketpair end FD."""

import socket
import sys

from grotto_wire.frames import Channel
from grotto_worker.zygote import run

if __name__ == "__main__":
    run(Channel(socket.socket(fileno=int(sys.argv[1]))))
