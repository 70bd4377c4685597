"""Ray Data: rows of a dataset, or of folders of files, classified by workers of a cluster (extra `ray`).

    import ray
    from bebert_infer.ray import classify
    classify(ray.data.read_parquet("reviews/"), "model/", text_column="review").write_parquet("answers/")

`dataset.py` has what a user calls, `worker.py` what runs on the cluster, `capacity.py` how many of them fit, `files.py`
what `bebert predict --engine ray` does, `storage.py` where it reads and writes.
"""

from bebert_infer.ray.dataset import classify as classify

__all__ = ["files"]
