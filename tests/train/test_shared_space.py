# SPDX-License-Identifier: Apache-2.0
"""The shared latent space: a few large cells cannot collapse it, and a sensor learns nothing of what it did not see."""

from dataclasses import replace

import numpy as np
import torch

from peft_dml_ros.core.classes import CLASSES, DETECTING
from peft_dml_train.data.batch import collate
from peft_dml_train.loop.stages import new_network
from peft_dml_train.losses.alignment import UNNAMED, Embeddings, concentration, embed
from peft_dml_train.losses.targets import make_targets
from peft_dml_train.losses.visibility import seen_cells

HUGE = 300.0


class Given(torch.nn.Module):
    """Stands where an encoder is and returns a map."""

    def __init__(self, features):
        super().__init__()
        self.features = features

    def forward(self, **_):
        return self.features


def mean_length(config, features, level):
    """Return the length of the mean latent over a map; 1 where all point one way."""
    network = new_network(config.model_copy(update={"network": config.network.model_copy(update=level)}))
    network.train()
    network.encoders["radar"] = Given(features)
    latent, _ = network.encode("radar", {})
    return float(latent.detach().mean(dim=(0, 2, 3)).norm())


def test_a_hundredth_of_large_cells_does_not_turn_all_latents_one_way(config):
    torch.manual_seed(0)
    features = torch.rand(2, config.network.radar.out, 40, 40)
    features[:, :, :4, :4] *= HUGE
    collapsed, spread = (mean_length(config, features, {"level_features": on}) for on in (False, True))
    assert collapsed > 0.8
    assert spread < 0.4


def test_what_a_sensor_has_no_echo_of_is_not_compared(frames, config):
    spec = config.spec
    batch = collate(frames[:2], spec)
    targets, size = make_targets(batch.boxes, spec), spec.grid.size
    seen = seen_cells(batch, spec)
    for row, frame in enumerate(frames[:2]):
        cells = frame.pillars["radar"].cells
        wanted = np.zeros((size + 2, size + 2), dtype=bool)
        for shift in np.ndindex(3, 3):
            wanted[cells // size + shift[0], cells % size + shift[1]] = True
        np.testing.assert_array_equal(seen["radar"][row].numpy(), wanted[1:-1, 1:-1].ravel())
    blind = replace(
        batch,
        feeds={**batch.feeds, "radar": collate([replace(f, pillars={}) for f in frames[:2]], spec).feeds["radar"]},
    )
    latents = {m: torch.nn.functional.normalize(torch.randn(2, 8, size, size), dim=1) for m in DETECTING}
    counts = []
    for one in (batch, blind):
        found = embed(latents, one.mask, targets, seen=seen_cells(one, spec))
        counts.append(int((found.label < len(CLASSES)).sum()))
        ground = int((found.label == len(CLASSES)).sum())
        assert ground % len(DETECTING) == 0, "empty ground counts for every sensor"
    inside = seen["radar"][targets.sample[targets.central], targets.cell[targets.central]]
    assert counts[0] - counts[1] == int(inside.sum()) > 0
    everything = embed(latents, batch.mask, targets)
    assert int((everything.label < len(CLASSES)).sum()) == len(DETECTING) * int(targets.central.sum()) > counts[0]


def test_a_camera_sees_what_is_in_a_picture_and_not_hidden_from_the_lidar(frames, config):
    spec = config.spec
    batch = collate(frames[:1], spec)
    with_lidar = seen_cells(batch, spec)
    alone = seen_cells(replace(batch, mask=batch.mask * torch.tensor([0.0, 1, 1, 1, 1])), spec)
    assert torch.equal(with_lidar["camera"], alone["camera"] & with_lidar["lidar"])
    heights, cells = len(spec.camera.voxel_heights_m), spec.grid.size**2
    table = frames[0].camera.voxel_pixel.reshape(heights, cells)
    nowhere = len(spec.camera.cameras) * np.prod(spec.camera.feature_hw)
    np.testing.assert_array_equal(alone["camera"][0].numpy(), (table < nowhere).any(axis=0))


def test_classes_leave_the_cone_in_which_they_lie():
    label = torch.arange(6).repeat(8)
    # What the classes have in common is ten times as large as what they differ by.
    common = 10 * torch.nn.functional.normalize(torch.ones(16), dim=0)
    free = (torch.nn.functional.one_hot(label, 16).float() + common).requires_grad_()
    optimiser, across = torch.optim.Adam([free], 0.1), []
    for _ in range(100):
        found = Embeddings(torch.nn.functional.normalize(free, dim=1), label, torch.arange(len(label)))
        cosines = found.vectors.detach() @ found.vectors.detach().T
        across.append(float(cosines[label[:, None] != label[None]].mean()))
        optimiser.zero_grad()
        concentration(found, Embeddings(*(x[:0].detach() for x in found))).backward()
        optimiser.step()
    assert across[0] > 0.95
    assert across[-1] < 0.1


def test_concentration_has_the_classes_weigh_alike_and_knows_the_memory():
    north, south = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, -1.0]])
    many = Embeddings(north.repeat(30, 1), torch.zeros(30, dtype=torch.int64), torch.arange(30))
    one = Embeddings(south, torch.ones(1, dtype=torch.int64), torch.tensor([40]))
    none = Embeddings(*(x[:0] for x in one))
    both = Embeddings(*map(torch.cat, zip(many, one, strict=True)))
    torch.testing.assert_close(concentration(both, none), torch.tensor(0.0))
    torch.testing.assert_close(concentration(many, none), torch.tensor(1.0))
    torch.testing.assert_close(concentration(many, one), torch.tensor(0.0))
    unnamed = Embeddings(north, torch.tensor([UNNAMED]), torch.tensor([0]))
    assert float(concentration(unnamed, none)) == 0.0
