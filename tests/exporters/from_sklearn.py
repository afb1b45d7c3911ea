"""scikit-learn through skl2onnx."""
import numpy
import pandas
import sklearn.base
from sklearn import calibration, cluster, compose, cross_decomposition, decomposition, discriminant_analysis, ensemble
from sklearn import feature_extraction, feature_selection, gaussian_process, impute
from sklearn import linear_model, mixture, multiclass, multioutput, naive_bayes, neighbors, neural_network
from sklearn import pipeline, preprocessing, random_projection, svm, tree
from skl2onnx import convert_sklearn, to_onnx
from skl2onnx.common.data_types import FloatTensorType, Int64TensorType, StringTensorType

dice = numpy.random.default_rng(7)
X = dice.normal(size=(200, 6)).astype(numpy.float32)
y = X @ [1, -2, 0.5, 0, 3, 1] + 0.1 * dice.normal(size=200)
TWO, THREE = (y > 0).astype(int), numpy.digitize(y, [-2, 2])
NAMED = numpy.array(["low", "middle", "high"])[THREE]
SEEN = dice.normal(size=(7, 6)).astype(numpy.float32)
POSITIVE = abs(X)
OPSETS = {"": 18, "ai.onnx.ml": 3}  # what all of its converters know


def feeds(x, name="X"):
    """One row, and several."""
    return [{name: x[:1]}, {name: x}]


def plain(model, target=None, x=X, **options):
    """On numbers, with what skl2onnx does where nothing is said."""

    def make():
        fitted = sklearn.base.clone(model).fit(x, target)
        chosen = {id(fitted): options} if options else None
        seen = abs(SEEN) if x is POSITIVE else SEEN
        return to_onnx(fitted, x[:1], options=chosen, target_opset=OPSETS), feeds(seen)

    return make


def texts(*steps, words=("one two three", "two words", "three more words here", "one", "Four two-three ONE")):
    def make():
        column = numpy.array(words * 8).reshape(-1, 1)
        target = numpy.arange(len(column)) % 3
        model = pipeline.make_pipeline(*map(sklearn.base.clone, steps)).fit(column.ravel(), target)
        proto = convert_sklearn(model, initial_types=[("X", StringTensorType([None, 1]))])
        return proto, feeds(column[:5].astype(object))

    return make


def columns():
    """Numbers and words, a column each: the pipeline of a table."""
    n = 60
    table = pandas.DataFrame(
        {
            "age": dice.normal(40, 10, n).astype(numpy.float32),
            "fare": numpy.where(dice.random(n) < 0.2, numpy.nan, dice.random(n)).astype(numpy.float32),
            "town": dice.choice(["Rome", "Oslo", "Kyiv"], n),
        }
    )
    numbers = pipeline.make_pipeline(impute.SimpleImputer(strategy="median"), preprocessing.StandardScaler())
    both = compose.ColumnTransformer(
        [("n", numbers, ["age", "fare"]), ("c", preprocessing.OneHotEncoder(handle_unknown="ignore"), ["town"])]
    )
    model = pipeline.make_pipeline(both, linear_model.LogisticRegression()).fit(table, dice.integers(0, 2, n))
    types = [(c, (StringTensorType if c == "town" else FloatTensorType)([None, 1])) for c in table]
    proto = convert_sklearn(model, initial_types=types)
    feed = {c: table[[c]].to_numpy()[:5].astype(object if c == "town" else numpy.float32) for c in table}
    feed["town"][0, 0] = "Paris"
    return proto, [feed]


def words_to_numbers(model):
    def make():
        x = dice.choice(["a", "b", "c"], (30, 2)).astype(object)
        fitted = sklearn.base.clone(model).fit(x)
        proto = convert_sklearn(fitted, initial_types=[("X", StringTensorType([None, 2]))])
        return proto, feeds(x[:6])

    return make


def label_encoder():
    fitted = preprocessing.LabelEncoder().fit(["a", "b", "c"])
    proto = convert_sklearn(fitted, initial_types=[("X", StringTensorType([None]))])
    return proto, feeds(numpy.array(["c", "a", "b"], dtype=object))


def whole_numbers():
    fitted = tree.DecisionTreeClassifier(max_depth=4).fit((X * 4).astype(numpy.int64), THREE)
    proto = convert_sklearn(fitted, initial_types=[("X", Int64TensorType([None, 6]))])
    return proto, feeds((SEEN * 4).astype(numpy.int64))


def doubles(model, target=None):
    def make():
        fitted = sklearn.base.clone(model).fit(X.astype(float), target)
        return to_onnx(fitted, X[:1].astype(float)), feeds(SEEN.astype(float))

    return make


CLASSIFIERS = {
    "logistic": linear_model.LogisticRegression(),
    "sgd": linear_model.SGDClassifier(loss="log_loss", random_state=0),
    "perceptron": linear_model.Perceptron(),
    "ridge": linear_model.RidgeClassifier(),
    "linear_svc": svm.LinearSVC(),
    "svc_rbf": svm.SVC(probability=True),
    "svc_poly": svm.SVC(kernel="poly", probability=True),
    "nu_svc": svm.NuSVC(nu=0.2, probability=True),
    "tree": tree.DecisionTreeClassifier(max_depth=5),
    "extra_tree": tree.ExtraTreeClassifier(max_depth=5),
    "forest": ensemble.RandomForestClassifier(10, max_depth=5),
    "extra_trees": ensemble.ExtraTreesClassifier(10, max_depth=5),
    "gradient_boosting": ensemble.GradientBoostingClassifier(n_estimators=10),
    "ada_boost": ensemble.AdaBoostClassifier(n_estimators=5),
    "bagging": ensemble.BaggingClassifier(n_estimators=5),
    "voting_soft": ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3))], voting="soft", flatten_transform=False
    ),
    "voting_hard": ensemble.VotingClassifier(
        [("a", linear_model.LogisticRegression()), ("b", tree.DecisionTreeClassifier(max_depth=3))], flatten_transform=False
    ),
    "stacking": ensemble.StackingClassifier([("a", linear_model.LogisticRegression()), ("b", naive_bayes.GaussianNB())]),
    "neighbors": neighbors.KNeighborsClassifier(5),
    "mlp": neural_network.MLPClassifier((8,), max_iter=50),
    "gaussian_nb": naive_bayes.GaussianNB(),
    "bernoulli_nb": naive_bayes.BernoulliNB(),
    "lda": discriminant_analysis.LinearDiscriminantAnalysis(),
    "qda": discriminant_analysis.QuadraticDiscriminantAnalysis(),
    "one_vs_rest": multiclass.OneVsRestClassifier(linear_model.LogisticRegression()),
    "calibrated": calibration.CalibratedClassifierCV(linear_model.LogisticRegression(), cv=2),
    "one_vs_one": multiclass.OneVsOneClassifier(linear_model.LogisticRegression()),
}
REGRESSORS = {
    "linear": linear_model.LinearRegression(),
    "ridge": linear_model.Ridge(),
    "lasso": linear_model.Lasso(0.01),
    "elastic_net": linear_model.ElasticNet(0.01),
    "bayesian_ridge": linear_model.BayesianRidge(),
    "huber": linear_model.HuberRegressor(),
    "lars": linear_model.Lars(),
    "ransac": linear_model.RANSACRegressor(random_state=0),
    "theil_sen": linear_model.TheilSenRegressor(random_state=0),
    "sgd": linear_model.SGDRegressor(),
    "linear_svr": svm.LinearSVR(),
    "svr": svm.SVR(),
    "nu_svr": svm.NuSVR(),
    "tree": tree.DecisionTreeRegressor(max_depth=5),
    "forest": ensemble.RandomForestRegressor(10, max_depth=5),
    "gradient_boosting": ensemble.GradientBoostingRegressor(n_estimators=10),
    "ada_boost": ensemble.AdaBoostRegressor(n_estimators=5),
    "bagging": ensemble.BaggingRegressor(n_estimators=5),
    "voting": ensemble.VotingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))]),
    "stacking": ensemble.StackingRegressor([("a", linear_model.Ridge()), ("b", tree.DecisionTreeRegressor(max_depth=3))]),
    "neighbors": neighbors.KNeighborsRegressor(5),
    "mlp": neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=50),
    "pls": cross_decomposition.PLSRegression(2),
    "gaussian_process": gaussian_process.GaussianProcessRegressor(gaussian_process.kernels.RBF(2.0), alpha=0.1, optimizer=None),
}
TRANSFORMERS = {
    "standard": preprocessing.StandardScaler(),
    "min_max": preprocessing.MinMaxScaler(),
    "max_abs": preprocessing.MaxAbsScaler(),
    "robust": preprocessing.RobustScaler(),
    "normalizer": preprocessing.Normalizer(),
    "normalizer_l1": preprocessing.Normalizer("l1"),
    "binarizer": preprocessing.Binarizer(),
    "polynomial": preprocessing.PolynomialFeatures(2),
    "power": preprocessing.PowerTransformer(),
    "k_bins": preprocessing.KBinsDiscretizer(4, encode="ordinal", quantile_method="averaged_inverted_cdf"),
    "function": preprocessing.FunctionTransformer(),
    "pca": decomposition.PCA(3),
    "incremental_pca": decomposition.IncrementalPCA(3),
    "kernel_pca": decomposition.KernelPCA(3, kernel="rbf"),
    "truncated_svd": decomposition.TruncatedSVD(3),
    "random_projection": random_projection.GaussianRandomProjection(3, random_state=0),
    "imputer": impute.SimpleImputer(),
    "knn_imputer": impute.KNNImputer(n_neighbors=3),
    "k_means": cluster.KMeans(3, n_init=2),
    "mini_batch_k_means": cluster.MiniBatchKMeans(3, n_init=2),
    "gaussian_mixture": mixture.GaussianMixture(2),
    "isolation_forest": ensemble.IsolationForest(n_estimators=5, random_state=0),
    "one_class_svm": svm.OneClassSVM(),
    "local_outlier_factor": neighbors.LocalOutlierFactor(novelty=True),
    "variance_threshold": feature_selection.VarianceThreshold(),
}


def all_models():
    models = {}
    for name, model in CLASSIFIERS.items():
        models[f"classifier_{name}"] = plain(model, THREE)
        models[f"classifier_{name}_two"] = plain(model, TWO)
    for name, model in REGRESSORS.items():
        models[f"regressor_{name}"] = plain(model, y)
    for name, model in TRANSFORMERS.items():
        models[f"transformer_{name}"] = plain(model)
    logistic = linear_model.LogisticRegression()
    scaled = pipeline.make_pipeline(preprocessing.StandardScaler(), logistic)
    models |= {
        "pipeline": plain(scaled, THREE),
        "pipeline_union": plain(
            pipeline.make_pipeline(
                pipeline.make_union(decomposition.PCA(2), preprocessing.StandardScaler()),
                feature_selection.SelectKBest(k=5),
                ensemble.RandomForestClassifier(5),
            ),
            THREE,
        ),
        "named_labels": plain(logistic, NAMED),
        "named_labels_forest": plain(ensemble.RandomForestClassifier(5), NAMED),
        "without_zipmap": plain(logistic, THREE, zipmap=False),
        "zipmap_columns": plain(logistic, THREE, zipmap="columns"),
        "raw_scores": plain(svm.SVC(), THREE, raw_scores=True),
        "multi_target": plain(linear_model.LinearRegression(), numpy.stack([y, -y], 1)),
        "multi_target_forest": plain(ensemble.RandomForestRegressor(5, max_depth=4), numpy.stack([y, -y], 1)),
        "multi_output_regressor": plain(multioutput.MultiOutputRegressor(linear_model.Ridge()), numpy.stack([y, -y], 1)),
        "multi_label": plain(multiclass.OneVsRestClassifier(logistic), numpy.stack([TWO, 1 - TWO], 1)),
        "multi_label_mlp": plain(
            neural_network.MLPClassifier((8,), max_iter=50), numpy.stack([TWO, 1 - TWO], 1), zipmap=False
        ),
        "multinomial_nb": plain(naive_bayes.MultinomialNB(), THREE, POSITIVE),
        "complement_nb": plain(naive_bayes.ComplementNB(), THREE, POSITIVE),
        "poisson": plain(linear_model.PoissonRegressor(), abs(y)),
        "gamma": plain(linear_model.GammaRegressor(), abs(y) + 0.1),
        "quantile": plain(linear_model.QuantileRegressor(alpha=0.01), y),
        "doubles_linear": doubles(linear_model.LinearRegression(), y),
        "doubles_scaler": doubles(preprocessing.StandardScaler()),
        "doubles_mlp": doubles(neural_network.MLPRegressor(hidden_layer_sizes=(8,), max_iter=50), y),
        "whole_numbers_tree": whole_numbers,
        "count_words": texts(feature_extraction.text.CountVectorizer(), naive_bayes.MultinomialNB()),
        "count_pairs": texts(feature_extraction.text.CountVectorizer(ngram_range=(1, 2)), logistic),
        "tfidf": texts(feature_extraction.text.TfidfVectorizer(), logistic),
        "tfidf_sublinear": texts(feature_extraction.text.TfidfVectorizer(sublinear_tf=True), logistic),
        "tfidf_letters": texts(feature_extraction.text.TfidfVectorizer(analyzer="char", ngram_range=(1, 2)), logistic),
        "tfidf_pattern": texts(feature_extraction.text.TfidfVectorizer(token_pattern="[a-zA-Z]+"), logistic),
        "columns": columns,
        "one_hot_words": words_to_numbers(preprocessing.OneHotEncoder(sparse_output=False)),
        "one_hot_drop": words_to_numbers(preprocessing.OneHotEncoder(sparse_output=False, drop="first")),
        "ordinal_words": words_to_numbers(preprocessing.OrdinalEncoder()),
        "label_encoder": label_encoder,
        "label_binarizer": plain(linear_model.RidgeClassifier(), NAMED),
    }
    return models


MODELS = all_models()
