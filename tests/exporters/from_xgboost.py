"""XGBoost through onnxmltools."""
import numpy
import xgboost
from onnxmltools import convert_xgboost
from onnxmltools.convert.common.data_types import FloatTensorType

dice = numpy.random.default_rng(7)
X = dice.normal(size=(300, 6)).astype(numpy.float32)
y = X @ [1, -2, 0.5, 0, 3, 1] + 0.1 * dice.normal(size=300)
TWO, THREE = (y > 0).astype(int), numpy.digitize(y, [-2, 2])
SEEN = dice.normal(size=(9, 6)).astype(numpy.float32)
HOLES = numpy.where(dice.random(SEEN.shape) < 0.2, numpy.nan, SEEN).astype(numpy.float32)


def model(kind, target, seen=SEEN, **settings):
    def make():
        settings.setdefault("n_estimators", 12)
        settings.setdefault("max_depth", 4)
        x = X.copy()
        if seen is HOLES:
            x[dice.random(x.shape) < 0.1] = numpy.nan
        fitted = getattr(xgboost, kind)(**settings).fit(x, target)
        proto = convert_xgboost(fitted, initial_types=[("X", FloatTensorType([None, 6]))], target_opset=15)
        return proto, [{"X": seen[:1]}, {"X": seen}]

    return make


MODELS = {
    "classifier_two": model("XGBClassifier", TWO),
    "classifier_three": model("XGBClassifier", THREE),
    "regressor": model("XGBRegressor", y),
    "regressor_missing": model("XGBRegressor", y, HOLES),
    "classifier_missing": model("XGBClassifier", THREE, HOLES),
    "regressor_logistic": model("XGBRegressor", TWO, objective="reg:logistic"),
    "regressor_poisson": model("XGBRegressor", abs(y), objective="count:poisson"),
    "regressor_gamma": model("XGBRegressor", abs(y) + 0.1, objective="reg:gamma"),
    "regressor_tweedie": model("XGBRegressor", abs(y), objective="reg:tweedie"),
    "regressor_absolute": model("XGBRegressor", y, objective="reg:absoluteerror"),
    "base_score": model("XGBRegressor", y, base_score=3.5),
    "base_score_two": model("XGBClassifier", TWO, base_score=0.3),
    "stumps": model("XGBClassifier", TWO, max_depth=1),
    "deep": model("XGBRegressor", y, max_depth=9, n_estimators=30),
    "leafwise": model("XGBClassifier", THREE, tree_method="hist", grow_policy="lossguide", max_leaves=9),
    "softmax": model("XGBClassifier", THREE, objective="multi:softmax"),
    "forest": model("XGBRFClassifier", TWO),
    "forest_regressor": model("XGBRFRegressor", y),
}
