"""LightGBM through onnxmltools."""
import lightgbm
import numpy
from onnxmltools import convert_lightgbm
from onnxmltools.convert.common.data_types import FloatTensorType

dice = numpy.random.default_rng(7)
X = dice.normal(size=(300, 6)).astype(numpy.float32)
y = X @ [1, -2, 0.5, 0, 3, 1] + 0.1 * dice.normal(size=300)
TWO, THREE = (y > 0).astype(int), numpy.digitize(y, [-2, 2])
SEEN = dice.normal(size=(9, 6)).astype(numpy.float32)
KINDS = numpy.concatenate([dice.integers(0, 5, (300, 1)), X[:, 1:]], 1).astype(numpy.float32)


def convert(fitted, seen, **options):
    types = [("X", FloatTensorType([None, 6]))]
    return convert_lightgbm(fitted, initial_types=types, target_opset=15, **options), [{"X": seen[:1]}, {"X": seen}]


def model(kind, target, x=X, zipmap=True, **settings):
    def make():
        fitted = getattr(lightgbm, kind)(n_estimators=12, verbose=-1, **settings)
        fitted.fit(x, target, **({"categorical_feature": [0]} if x is KINDS else {}))
        seen = SEEN.copy()
        if x is KINDS:
            seen[:, 0] = numpy.arange(len(seen)) % 6
        return convert(fitted, seen, zipmap=zipmap)

    return make


def booster():
    data = lightgbm.Dataset(X, TWO)
    return convert(lightgbm.train({"objective": "binary", "verbose": -1}, data, 8), SEEN)


MODELS = {
    "classifier_two": model("LGBMClassifier", TWO),
    "classifier_three": model("LGBMClassifier", THREE),
    "without_zipmap": model("LGBMClassifier", THREE, zipmap=False),
    "regressor": model("LGBMRegressor", y),
    "regressor_l1": model("LGBMRegressor", y, objective="l1"),
    "regressor_huber": model("LGBMRegressor", y, objective="huber"),
    "regressor_quantile": model("LGBMRegressor", y, objective="quantile", alpha=0.7),
    "regressor_poisson": model("LGBMRegressor", abs(y), objective="poisson"),
    "regressor_gamma": model("LGBMRegressor", abs(y) + 0.1, objective="gamma"),
    "regressor_tweedie": model("LGBMRegressor", abs(y), objective="tweedie"),
    "categories": model("LGBMRegressor", y, KINDS),
    "categories_classifier": model("LGBMClassifier", THREE, KINDS),
    "one_vs_all": model("LGBMClassifier", THREE, objective="multiclassova"),
    "forest": model("LGBMRegressor", y, boosting_type="rf", bagging_freq=1, bagging_fraction=0.7),
    "dart": model("LGBMRegressor", y, boosting_type="dart"),
    "deep": model("LGBMRegressor", y, num_leaves=120, min_child_samples=2),
    "booster": booster,
}
