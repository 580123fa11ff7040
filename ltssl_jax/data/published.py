"""The protocols of the literature, as a table: how released code cuts each data set.

`docs/protocols.md` is the same table for people. Sources are the released codes, read at these
commits: LeeHyuck/ABC f70e926 and CDMAD 7cd732b, Stomach-ache/TRAS c62ec01, bbuing9/DARP 64a94b4,
YUE-FAN/CoSSL 9c7b840, Gank0078/ACR 9a8f421, zhouzihao11/CCL 0410cb1, LeapLabTHU/SimPro aa2425d,
ytaek-oh/daso 3541a6c, microsoft/Semi-supervised-learning 1ef4cbe (USB), google-research/crest
e270139, machengcheng2016/CPE-LTSSL dedd598, ZJUJeffLai/SAW_SSL 44157ca, pywin/SeMi 32e3a71; and the
tables of the papers.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from ltssl_jax.core import InputError
from ltssl_jax.data import counts

GIVEN = "given"  # the name under which labels and pool are taken as they are
UNLESS_SEED_0 = "unless seed is 0"

Setting = Mapping[str, Any]  # published counts, as fields of `splits.long_tailed`


class Conventions(NamedTuple):
    """What a protocol fixes on one data set; None where that is not known.

    Attributes:
      overlap: are the labeled images unlabeled ones, too?
      shuffle: False takes the first images of each class; or `UNLESS_SEED_0`.
      uniform: the shape that is meant by "uniform".
      held_out: images of each class for validation.
      pool: "chosen" by counts; "own", the images that came without a class and no others; or
        "rest", whatever is not labeled.
      labeled_share: share of each class that is labeled, in place of counts; 0 where counts say it.
      settings: the published counts; of a pool that is not chosen only the labeled ones.
    """

    overlap: bool
    shuffle: bool | str | None = None
    uniform: str | None = None
    held_out: int | None = None
    pool: str = "chosen"
    labeled_share: float = 0.0
    settings: tuple[Setting, ...] = ()


def _grid(pairs, ratios, *shapes: str, **others) -> tuple[Setting, ...]:
    """Each pair of `num_max` and `unlabeled_num_max` at each ratio, in each shape."""
    return tuple(
        dict(num_max=n, unlabeled_num_max=m, imbalance_ratio=ratio)
        | ({} if shape == "consistent" else dict(unlabeled_shape=shape))
        | others
        for n, m in pairs
        for ratio in ratios
        for shape in shapes or ("consistent",)
    )


def _labeled_grid(maxima, ratios) -> tuple[Setting, ...]:
    return tuple(dict(num_max=n, imbalance_ratio=ratio) for n in maxima for ratio in ratios)


def _tenth(num_max, imbalance_ratio) -> Setting:
    """A tenth of each of ten classes of a long-tailed set, rounded up, is labeled (CReST)."""
    whole = counts.long_tailed(num_max, imbalance_ratio, 10).tolist()
    labeled = tuple(-(-n // 10) for n in whole)
    rest = tuple(n - m for n, m in zip(whole, labeled, strict=True))
    return dict(labeled_counts=labeled, unlabeled_counts=rest)


_MAX, _MEAN, _BACK = "uniform_max", "uniform_mean", "reversed"
_FIVE = ("consistent", _MAX, _BACK, "middle", "head_tail")
_C10, _C100 = ((500, 4000), (1500, 3000)), ((50, 400), (150, 300))
_TRAS, _TRAS_C100 = _grid([(1000, 4000)], (100,)), _grid([(200, 300)], (20,))
_COSSL, _COSSL_C100 = _grid(_C10[1:], (50, 100, 150)), _grid(_C100[1:], (20, 50, 100))
_SHIFTED = _grid(_C10[1:], (100,), _MAX)
_SHIFTED += _grid(_C10[1:], (100,), unlabeled_imbalance_ratio=50)
_SHIFTED += _grid(_C10[1:], (100,), unlabeled_imbalance_ratio=150)
_DASO, _DASO_C100 = _grid(_C10, (100, 150)), _grid(_C100, (10, 20))
_ACR = _DASO + _grid(_C10, (100,), _MAX, _BACK)
_ACR_C100 = _DASO_C100 + _grid(_C100, (10,), _MAX, _BACK)
_USB = _DASO + _grid(_C10, (100,), _BACK)
_USB_C100 = _grid(_C100[1:], (10, 15)) + _grid(_C100[1:], (10,), _BACK)
_STL10 = _labeled_grid((150, 450), (10, 20))
_USB_STL10 = Conventions(True, True, pool="rest", settings=_labeled_grid((150,), (10, 20)))
_DARP = _COSSL + _SHIFTED + _grid(_C10[1:], (100,), _BACK)
_DARP_C100, _DARP_STL10 = _grid([(300, 150)], (20,)), _labeled_grid((450,), (20,))
_OWN, _TENTH = dict(pool="own"), dict(pool="rest", labeled_share=0.1)

# protocol: data set: overlap, shuffle, what "uniform" means, images of a class held out, ...
PROTOCOLS: dict[str, dict[str, Conventions]] = {
    "tras": {
        "cifar10": Conventions(False, False, settings=_TRAS),
        "svhn": Conventions(False, False, settings=_TRAS),
        "cifar100": Conventions(True, False, settings=_TRAS_C100),
    },
    "abc": {
        "cifar10": Conventions(False, False, settings=_TRAS),
        "svhn": Conventions(False, False, settings=_TRAS),
        "cifar100": Conventions(True, False, settings=_TRAS_C100),
    },
    "darp_fixmatch": {
        "cifar10": Conventions(True, False, _MAX, settings=_DARP),
        "cifar100": Conventions(True, False, _MAX, settings=_DARP_C100),
        "stl10": Conventions(True, False, **_OWN, settings=_DARP_STL10),
    },
    "darp_mixmatch": {  # and ReMixMatch
        "cifar10": Conventions(False, False, _MAX, settings=_DARP),
        "cifar100": Conventions(False, False, _MAX, settings=_DARP_C100),
        "stl10": Conventions(False, False, **_OWN, settings=_DARP_STL10),
    },
    "cossl": {
        "cifar10": Conventions(True, UNLESS_SEED_0, _MAX, settings=_COSSL),
        "cifar100": Conventions(True, UNLESS_SEED_0, _MAX, settings=_COSSL_C100),
        "imagenet127": Conventions(True, UNLESS_SEED_0, **_TENTH),
    },
    "cdmad": {
        "cifar10": Conventions(True, False, _MAX, settings=_COSSL + _SHIFTED),
        "cifar100": Conventions(True, UNLESS_SEED_0, _MAX, settings=_COSSL_C100),
        "stl10": Conventions(True, False, **_OWN, settings=_labeled_grid((450,), (10, 20))),
    },
    "acr": {
        "cifar10": Conventions(True, False, _MAX, settings=_ACR),
        "cifar100": Conventions(True, False, _MAX, settings=_ACR_C100),
        "stl10": Conventions(False, False, **_OWN, settings=_STL10),
        "imagenet127": Conventions(True, False, **_TENTH),
    },
    "ccl": {
        "cifar10": Conventions(True, False, _MAX, settings=_ACR),
        "cifar100": Conventions(True, False, _MAX, settings=_ACR_C100),
        "stl10": Conventions(False, False, **_OWN, settings=_STL10),
        "imagenet127": Conventions(True, False, **_TENTH),
    },
    "simpro": {
        "cifar10": Conventions(False, False, _MAX, settings=_grid(_C10[:1], (100, 150), *_FIVE)),
        "cifar100": Conventions(False, False, _MAX, settings=_grid(_C100[:1], (10, 20), *_FIVE)),
        "stl10": Conventions(False, False, **_OWN, settings=_labeled_grid((450,), (10, 20))),
        "imagenet127": Conventions(False, False, **_TENTH),
    },
    "daso": {
        "cifar10": Conventions(False, True, _MAX, 500, settings=_ACR),
        "cifar100": Conventions(False, True, _MAX, 50, settings=_DASO_C100),
        "stl10": Conventions(False, True, None, 50, **_OWN, settings=_STL10),
    },
    "usb": {
        "cifar10": Conventions(False, True, _MEAN, settings=_USB),
        "cifar100": Conventions(False, True, _MEAN, settings=_USB_C100),
        "stl10": _USB_STL10,
    },
    "cpe": {
        "cifar10": Conventions(False, True, _MEAN, settings=_USB + _grid(_C10, (100,), _MEAN)),
        "cifar100": Conventions(False, True, _MEAN, settings=_USB_C100),
        "stl10": _USB_STL10,
    },
    "crest": {
        "cifar10": Conventions(True, True, settings=tuple(_tenth(5000, r) for r in (50, 100, 200)))
    },
    "saw": {
        "cifar10": Conventions(True, False, settings=_grid(_C10[1:], (100,))),
        "cifar100": Conventions(True, False, settings=_grid(_C100[1:], (100,))),
    },
    "semi": {
        "cifar10": Conventions(True, False, settings=_grid(_C10, (100,))),
        "cifar100": Conventions(True, False, settings=_grid(_C100[1:], (10,))),
    },
    # Of these nothing else, and no counts, could be read.
    "boat": dict.fromkeys(("cifar10", "cifar100"), Conventions(True)),
    "adello": dict.fromkeys(("cifar10", "cifar100"), Conventions(True)),
    "seval": dict.fromkeys(("cifar10", "cifar100"), Conventions(False)),
    "bi_sampling": dict.fromkeys(("cifar10", "cifar100"), Conventions(False)),
}


def conventions(protocol: str, dataset: str) -> Conventions:
    """Returns what `protocol` fixes on `dataset`.

    Args:
      protocol: a key of `PROTOCOLS`.
      dataset: as `config.data.source.name` says it: "cifar10", "CIFAR-10", "svhn_cropped", ...

    Raises:
      InputError: the protocol is unknown, or says nothing of the data set.
    """
    if protocol not in PROTOCOLS:
        raise InputError.unknown("data.split.protocol", protocol, (*PROTOCOLS, GIVEN))
    name = re.split("[:/]", dataset)[0].lower().replace("-", "").replace("_", "")
    found = PROTOCOLS[protocol].get("svhn" if name == "svhncropped" else name)
    if found is None:
        raise InputError(
            f"data.split.protocol {protocol!r} says nothing about the data set {dataset!r}, only"
            f" about {', '.join(PROTOCOLS[protocol])}; set data.source.name to one of them if these"
            " are its images, or data.split.protocol='' and choose the fields of data.split"
        )
    return found
