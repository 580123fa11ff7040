"""Branches of the pooling: against float64 NumPy, and in steps of the authors of CPE.

`golden/cpe_pool.npz`: two training steps of CPE's network head, loss and gradients (released code,
machengcheng2016/CPE-LTSSL, dedd598, float64), from given feature maps; then the evaluation mode.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from ltssl_jax import core
from ltssl_jax.losses.reduce import reduce_terms
from ltssl_jax.methods.cpe import CPE, EXPERTS
from ltssl_jax.models.layers import Pool
from ltssl_jax.models.network import Network
from ltssl_jax.training.forward import AxisDevices, NetworkForward
from tests.methods.golden import Golden

BRANCHES, C = 3, 4
RNG = np.random.default_rng(2)
X = RNG.normal(1.0, 2.0, (8, 3, 2, C))
SCALE, BIAS = RNG.uniform(0.5, 2, (BRANCHES, C)), RNG.standard_normal((BRANCHES, C))


def variables(scale, bias, mean=None, var=None):
    """Those of a `Pool`, from arrays `[branches, C]`; statistics begin at 0 and 1."""
    mean = np.zeros_like(scale) if mean is None else mean
    var = np.ones_like(scale) if var is None else var

    def branches(**arrays):
        return {
            f"branch{b}": {name: jnp.float32(x[b]) for name, x in arrays.items()}
            for b in range(len(scale))
        }

    return {"params": branches(scale=scale, bias=bias), "batch_stats": branches(mean=mean, var=var)}


def rows(tree, name):
    """One array `[branches, C]` of what a `Pool` holds by branch."""
    return np.stack([tree[f"branch{b}"][name] for b in range(BRANCHES)])


def close(found, expected, **tolerance):
    np.testing.assert_allclose(found, expected, **(dict(rtol=2e-4, atol=2e-5) | tolerance))


def test_every_row_passes_every_branch():
    """One batch norm with three affine maps, which commute with the pooling."""
    features, updated = Pool(BRANCHES).apply(
        variables(SCALE, BIAS), jnp.float32(X), True, mutable=["batch_stats"]
    )
    mean, var, n = X.mean((0, 1, 2)), X.var((0, 1, 2)), X.size // C
    pooled = ((X - mean) / np.sqrt(var + 1e-5)).mean((1, 2))
    close(features, pooled[:, None] * SCALE + BIAS)
    stats = updated["batch_stats"]
    close(rows(stats, "mean"), np.tile(0.1 * mean, (BRANCHES, 1)))
    close(rows(stats, "var"), np.tile(0.9 + 0.1 * var * n / (n - 1), (BRANCHES, 1)))


def test_evaluation_uses_the_running_statistics_of_each_branch():
    mean, var = RNG.standard_normal((BRANCHES, C)), RNG.uniform(0.5, 2, (BRANCHES, C))
    given = variables(SCALE, BIAS, mean, var)
    features = Pool(BRANCHES).apply(given, jnp.float32(X), False)
    pooled = X.mean((1, 2))[:, None]
    close(features, (pooled - mean) / np.sqrt(var + 1e-5) * SCALE + BIAS)


def test_one_branch_is_the_mean_over_pixels_and_holds_nothing():
    features, held = Pool().init_with_output(jax.random.key(0), jnp.float32(X), True)
    close(features, X.mean((1, 2)))
    assert not held


def test_eight_devices_normalize_as_one():
    given, x = variables(SCALE, BIAS), jnp.float32(X)
    target = jnp.float32(RNG.standard_normal((8, BRANCHES, C)))

    def objective(params, x, target, axis_name):
        pool, both = Pool(BRANCHES, axis_name), given | {"params": params}
        features, updated = pool.apply(both, x, True, mutable=["batch_stats"])
        return jnp.mean(jnp.square(features) * target), (features, updated["batch_stats"])

    slope = jax.value_and_grad(objective, (0, 1), has_aux=True)

    def lane(x, target):
        (value, (features, stats)), (to_params, to_x) = slope(given["params"], x, target, "data")
        value, stats, to_params = jax.lax.pmean((value, stats, to_params), "data")
        return (value, stats, to_params), (features, to_x / 8)  # a lane's mean weighs an eighth

    several = jax.jit(jax.vmap(lane, axis_name="data"))(x[:, None], target[:, None])
    (value, (features, stats)), (to_params, to_x) = slope(given["params"], x, target, None)
    jax.tree.map(close, jax.tree.map(lambda a: a[3], several[0]), (value, stats, to_params))
    jax.tree.map(lambda a, b: close(a[:, 0], b), several[1], (features, to_x))


# --- in a network ---------------------------------------------------------------------------------


class Maps(nn.Module):
    """A backbone whose images are the feature maps themselves."""

    axis_name: str | None = None
    branches: int = BRANCHES
    momentum: float = 0.001  # of layers that a trunk would have, unlike that of the branches

    @nn.compact
    def __call__(self, images, train):
        return Pool(self.branches, self.axis_name, name="pool")(images, train)


def test_views_apart_move_the_statistics_one_by_one_even_if_others_are_stacked():
    model = Network(Maps(), (core.Head("base"),), 5)
    views = [jnp.float32(X + 3 * i) for i in range(2)]
    start = model.init(jax.random.key(0), views[0], False)
    forward = NetworkForward(model, start["params"], start["batch_stats"], None, stack_views=True)
    forward.apart(*views)
    expected = 0.0
    for view in views:
        expected = 0.9 * expected + 0.1 * np.asarray(view, np.float64).mean((0, 1, 2))
    moved = rows(forward.batch_stats["backbone"]["pool"], "mean")
    close(moved, np.tile(expected, (BRANCHES, 1)))


def given_weights(golden, n):
    heads = {
        f"classifier_{name}": {"dense": jax.tree.map(jnp.float32, golden.below(key))}
        for name, key in ((name, f"step{n}/head/{name}") for name in EXPERTS)
    }
    scale, bias = golden[f"step{n}/bn/scale"], golden[f"step{n}/bn/bias"]
    return {"backbone": {"pool": variables(scale, bias)["params"]}, **heads}


def step(golden, n, stats):
    """One step of CPE on the maps of the file; what it gives, and the gradients of its loss."""
    names = ("labeled", "weak", "strong0")
    maps = {name: jnp.float32(golden[f"step{n}/view/{name}/map"]) for name in names}
    labels = jnp.asarray(golden[f"step{n}/labels"])
    method = CPE(cut1=int(golden["hyper/cut1"]), cut2=int(golden["hyper/cut2"]))
    model = Network(Maps(), method.needs.heads, 5)

    def objective(params, maps):
        forward = NetworkForward(model, params, stats, None)
        batch = core.Batch(
            core.Labeled(maps["labeled"], labels, jnp.arange(len(labels))),
            core.Unlabeled(maps["weak"], (maps["strong0"],), jnp.arange(len(maps["weak"]))),
        )
        loss = method.loss(method.init(golden.problem()), forward, batch, None)
        total, terms = reduce_terms(loss.terms, AxisDevices(None))
        features = {name: forward(maps[name]).features for name in names}
        return total, (terms, features, forward.batch_stats)

    given = given_weights(golden, n), maps
    (_, found), gradients = jax.jit(jax.value_and_grad(objective, (0, 1), has_aux=True))(*given)
    return *found, *gradients


def test_steps_of_the_network_are_the_authors():
    golden = Golden("cpe_pool")
    scale = golden["step0/bn/scale"]
    stats = {"backbone": {"pool": variables(scale, scale)["batch_stats"]}}
    for n in golden.steps:
        terms, features, stats, to_params, to_maps = step(golden, n, stats)
        for name in EXPERTS:
            close(terms[f"supervised_{name}"], golden[f"step{n}/term/supervised_{name}"])
            close(terms[f"consistency_{name}"], golden[f"step{n}/term/unsupervised_{name}"])
            for what in ("kernel", "bias"):
                expected = golden[f"step{n}/grad/head/{name}/{what}"]
                close(to_params[f"classifier_{name}"]["dense"][what], expected)
        for view, found in features.items():
            close(found, golden[f"step{n}/view/{view}/features"])
            close(to_maps[view], golden[f"step{n}/grad/{view}/map"])
        for what in ("scale", "bias"):
            expected = golden[f"step{n}/grad/bn/{what}"]
            close(rows(to_params["backbone"]["pool"], what), expected)
        close(rows(stats["backbone"]["pool"], "mean"), golden[f"step{n}/state/running_mean"])
        close(rows(stats["backbone"]["pool"], "var"), golden[f"step{n}/state/running_var"])
    check_prediction(golden, stats)


def check_prediction(golden, stats):
    method = CPE()
    model = Network(Maps(), method.needs.heads, 5)
    trained = {"params": given_weights(golden, golden.steps[-1]), "batch_stats": stats}
    images = jnp.float32(golden["predict/map"])
    found = method.predict(None, lambda x: model.apply(trained, x, False), images, 0)
    close(found, golden["predict/logits"])
