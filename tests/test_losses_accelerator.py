"""All losses and samplers on an accelerator that has no memory to look into.

Whatever asks the device for a value, or mixes devices, fails there. It runs in a process of its own, since a
device can be registered once. Gradients need a device thread, which this kind of device has not: for them,
test_losses_contracts.py uses the meta device.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap

SCRIPT = textwrap.dedent(
    """
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    _setup_privateuseone_for_python_backend("imagined")
    from seqaug.losses import *
    from seqaug.negatives import InBatchNegatives, PopularityNegatives, UniformNegatives
    from seqaug.soft_target import SoftTarget

    catalog = slice(1, 30)
    losses = [
        BCELoss(), BPRLoss(), CELoss(catalog=catalog), FocalLoss(), GBCELoss(num_items=29),
        ICELoss(catalog=catalog), ICELoss(catalog=catalog, reduction="none"), InfoNCELoss(),
        RECELoss(catalog=catalog, rounds=2), SCELoss(catalog=catalog), SampledSoftmaxLoss(),
        SoftmaxFocalLoss(catalog=catalog),
    ]
    samplers = [UniformNegatives(29, k=4), PopularityNegatives(torch.arange(30), k=4), InBatchNegatives()]
    with FakeTensorMode(allow_non_fake_inputs=True):
        device = "imagined"
        ids = torch.empty(3, 7, dtype=torch.long, device=device)
        for loss in losses:
            for kind in ("ids", "soft", "vectors"):
                if isinstance(loss, InfoNCELoss) and kind != "vectors":
                    continue
                hidden = torch.empty(3, 7, 5, device=device, requires_grad=True)
                table = torch.empty(31, 5, device=device, requires_grad=True)
                target = {
                    "ids": ids,
                    "soft": SoftTarget(ids, ids, torch.empty(3, 1, device=device)),
                    "vectors": torch.empty(3, 7, 5, device=device),
                }[kind]
                extras = {"weight": torch.empty(3, device=device)}
                if loss.needs_negatives:
                    extras["negatives"] = torch.empty(3, 7, 4, dtype=torch.long, device=device)
                value = loss(hidden, table, target, **extras)
                assert value.device.type == device, loss
        samplers[1].below = torch.empty(30, dtype=torch.long, device=device)  # as after a first call there
        for sampler in samplers:
            for history in (None, ids):
                drawn, log_q = sampler.sample(ids, history=history)
                assert drawn.device.type == log_q.device.type == device, sampler
    print("all ran", flush=True)
    """
)


def test_no_loss_or_sampler_asks_an_accelerator() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0 and done.stdout.strip() == "all ran", done.stderr[-3000:]
