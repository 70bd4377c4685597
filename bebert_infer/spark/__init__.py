"""A packed model on Spark: the columns of its answers behind those of a DataFrame, and a function for SQL.

    from bebert_infer.spark import classify, udf
    answers = classify(spark.read.parquet("reviews/"), "model/", text_column="review")
    spark.udf.register("classify", udf("model/"))      # SELECT id, classify(review).label FROM reviews

Spark cuts the rows, starts the workers and repeats what was lost; an answer is the same bits wherever it is made.
`send.py` brings the model to the workers, `worker.py` answers there. How to run it: docs/scale.md.
"""

from bebert_infer.optional import load_package

load_package("pyspark", "spark")  # says what to install where it is missing
load_package("pyarrow", "spark")

from bebert_infer.spark.frame import classify as classify  # noqa: E402
from bebert_infer.spark.frame import udf as udf  # noqa: E402
