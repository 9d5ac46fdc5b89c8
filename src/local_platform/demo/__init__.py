"""The demo: a model is trained on simulated phones, from its submission to its download."""
