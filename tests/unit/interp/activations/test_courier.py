"""How activations get from device to device, watched on devices that are not there."""

from contextlib import contextmanager

import pytest
import torch
from torch._subclasses import FakeTensorMode

from interp.activations.courier import Courier, Sent, same_device
from interp.code import ActivationBatch

CPU, GPU, OTHER = torch.device("cpu"), torch.device("cuda", 0), torch.device("cuda", 1)


class Event:
    def __init__(self, log):
        self.log = log

    def synchronize(self):
        self.log.append("host waits")


class Stream:
    def __init__(self, log, device, name):
        self.log, self.device, self.name = log, torch.device(device), name

    def wait_stream(self, other):
        self.log.append(f"{self.name} waits for {other.name}")

    def wait_event(self, event):
        self.log.append(f"{self.name} waits for the copies")

    def record_event(self):
        self.log.append(f"{self.name} marks the copies")
        return Event(self.log)


class Cuda:
    """Stands for torch.cuda; writes down what is asked of it."""

    def __init__(self):
        self.log = []
        self.n_streams = 0

    def Stream(self, device):
        self.n_streams += 1
        return Stream(self.log, device, f"side {torch.device(device)}")

    def current_stream(self, device):
        return Stream(self.log, device, f"main {torch.device(device)}")

    @contextmanager
    def stream(self, stream):
        self.log.append(f"in {stream.name}:")
        yield
        self.log.append("out")


@pytest.fixture
def cuda(monkeypatch):
    cuda = Cuda()

    def pinned(x):
        cuda.log.append("pin")
        return x

    moved = torch.Tensor.to

    def to(x, device, **how):
        cuda.log.append(f"copy to {device}" + (", asynchronous" if how.get("non_blocking") else ""))
        return moved(x, device)

    monkeypatch.setattr(torch.Tensor, "pin_memory", pinned)
    monkeypatch.setattr(torch.Tensor, "to", to)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda x, stream: cuda.log.append(f"held by {stream.name}"))
    with FakeTensorMode():
        yield cuda


def _batch(device):
    index = [torch.empty(3, dtype=torch.int64, device=device) for _ in range(3)]
    return ActivationBatch({"hook": torch.empty(3, 4, device=device)}, *index)


def test_from_cpu_to_gpu_through_pinned_memory_in_a_stream_of_its_own(cuda):
    sent = Courier(GPU, cuda=cuda).send(_batch(CPU))
    each = ["pin", "copy to cuda:0, asynchronous"]
    assert cuda.log == ["in side cuda:0:", *(4 * each), "side cuda:0 marks the copies", "out"]
    cuda.log.clear()
    received = sent.received()
    assert received.acts["hook"].device == received.position.device == GPU
    assert cuda.log == ["main cuda:0 waits for the copies", *(4 * ["held by main cuda:0"])]


def test_from_gpu_to_gpu_after_what_made_them(cuda):
    sent = Courier(OTHER, cuda=cuda).send(_batch(GPU))
    assert cuda.log[:2] == ["side cuda:1 waits for main cuda:0", "in side cuda:1:"]
    assert cuda.log[2:6] == 4 * ["copy to cuda:1, asynchronous"]
    assert sent.received().token_ids.device == OTHER
    assert "host waits" not in cuda.log


def test_from_gpu_to_cpu_the_host_waits_before_it_looks(cuda):
    sent = Courier(CPU, cuda=cuda).send(_batch(GPU))
    assert cuda.log[:2] == ["side cuda:0 waits for main cuda:0", "in side cuda:0:"]
    # Their memory is not given away before it was read.
    assert cuda.log.count("held by side cuda:0") == 4
    assert "host waits" not in cuda.log
    assert sent.received().acts["hook"].device == CPU
    assert cuda.log[-1] == "host waits"


def test_one_stream_serves_all_batches(cuda):
    courier = Courier(GPU, cuda=cuda)
    courier.send(_batch(CPU))
    assert cuda.n_streams == 1
    courier.send(_batch(CPU))
    assert cuda.n_streams == 1
    assert cuda.log.count("in side cuda:0:") == 2


def test_what_is_there_already_is_not_touched():
    batch = ActivationBatch({"hook": torch.ones(3, 4)}, *(torch.arange(3) for _ in range(3)))
    sent = Courier(CPU).send(batch)
    assert sent == Sent(batch)
    assert sent.received() is batch


def test_devices_without_streams_take_plain_copies():
    batch = ActivationBatch({"hook": torch.ones(3, 4)}, *(torch.arange(3) for _ in range(3)))
    received = Courier(torch.device("meta")).send(batch).received()
    assert received.acts["hook"].device.type == received.document.device.type == "meta"


def test_a_gpu_without_a_number_is_the_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    assert same_device(torch.device("cuda"), OTHER)
    assert not same_device(torch.device("cuda"), GPU)
    assert not same_device(CPU, OTHER)


@pytest.mark.gpu
def test_a_batch_arrives_whole_on_the_gpu_and_comes_back():
    batch = ActivationBatch({"hook": torch.randn(4096, 512)}, *(torch.arange(4096) for _ in range(3)))
    there = Courier(torch.device("cuda")).send(batch).received()
    doubled = ActivationBatch({"hook": there.acts["hook"] * 2}, there.token_ids, there.document, there.position)
    back = Courier(CPU).send(doubled).received()
    assert torch.equal(back.acts["hook"], batch.acts["hook"] * 2)
    assert torch.equal(back.position, batch.position)
