"""The main methods on real CIFAR-10-LT, at a size that two processor cores can carry.

python benchmarks/methods_cifar10.py --root DIR --workdir runs/methods_cifar10 --seeds 0,1,2 --write

DIR holds `train/CLASS/*` and `test/CLASS/*` images. One protocol for all: N1 = 500, M1 = 4000,
imbalance ratio 100, images of 16 pixels, WRN-10-1, 2,000 steps of 32 labeled and 32 unlabeled
images, Adam. So the numbers rank nothing that has been published; they show which methods gain on
photographs before the network has seen many. Finished runs are kept: the same command continues.
With `--write` the table replaces the one in docs/methods.md.
"""

import pathlib

import methods_digits

from ltssl_jax import defaults

EPOCHS, STEPS = 20, 2000
METHODS = {
    "supervised": dict(),
    "supervised + LA": dict(name="supervised", objective="logit_adjusted"),
    "fixmatch": dict(num_strong=2, forward_mode="separate"),
    "fixmatch + LA": dict(name="fixmatch", num_strong=2, forward_mode="separate", labeled_tau=1.0),
    "flexmatch": dict(),
    "freematch": dict(decay=0.99),
    "tras": dict(warmup_epochs=4),
    "abc": dict(ramp_epochs=EPOCHS),
    "daso": dict(warmup_steps=200),
    "acr": dict(warmup_epochs=2),
    "cpe": dict(),
    "simpro": dict(),
    "ccl": dict(warmup_epochs=2),
    "debiaspl": dict(momentum=0.99),
}


def main():
    """Runs what is missing, then prints, and writes if asked."""
    args = parse()
    made = {
        seed: {name: configured(name, seed, args.root) for name in METHODS} for seed in args.seeds
    }
    rows = methods_digits.run(made, args.workdir, args.only)
    methods_digits.report(rows, "CIFAR-10-LT, reduced", "methods_cifar10", args)


def parse():
    """Reads the command line."""
    parser = methods_digits.parser(__doc__)
    parser.add_argument("--root", type=pathlib.Path, required=True)
    return parser.parse_args()


def configured(name, seed, root):
    """The protocol, with a method whose warm-up is scaled to its 20 epochs of 100 steps."""
    config = defaults.base()
    config.seed = seed
    config.data.update(source=defaults.source("folder", root=str(root)), image_size=16)
    config.data.split.update(num_max=500, unlabeled_num_max=4000, shuffle=True)
    config.augment = dict(recipe="fixmatch", **defaults.CIFAR10)
    config.model = defaults.wide_resnet(10, 1)
    config.model.update(momentum=0.01)
    settings = dict(name=name) | METHODS[name]
    config.method = defaults.method(settings.pop("name"), **settings)
    config.optim = defaults.optim("O1")
    config.ema.decay = 0.995
    config.train.update(
        batch_size=32,
        steps=STEPS,
        steps_per_epoch=STEPS // EPOCHS,
        log_every=300,
        evaluate_every=1000,
        checkpoint_every=1000,
    )
    return config


if __name__ == "__main__":
    main()
