"""The main job, whole: a model goes out, phones train it, it comes back, its node goes down."""
