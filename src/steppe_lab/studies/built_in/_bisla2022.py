"""The measures that the studies of LPF-SGD share.

Source: Bisla, Wang and Choromanska, 2022, arXiv:2201.08025, supplement B.
"""

from __future__ import annotations

# As the published code computes them: on the training samples, in eval mode, in
# coordinates in which each filter has length one. Its measures of the gradient have no
# such coordinates here; the Fisher-Rao norm is the same in both.
PUBLISHED = (
    "epsilon_sharpness:variant=published",
    "pac_bayes:scale=balanced,variant=published",
    "lpf:sigma=0.01,samples=100,scale=balanced",
    "fisher_rao:variant=published",
    "shannon_entropy",
    "local_entropy_gradient:variant=published",
    "frobenius_norm:scale=balanced,variant=published",
    "top_eigenvalue:scale=balanced,variant=published",
    "ritz_sum:scale=balanced",
    "effective_dimension:scale=balanced,variant=published",
)
# The correct variants with fewer draws and shorter runs of Lanczos.
CHEAP = (
    "epsilon_sharpness",
    "pac_bayes:samples=5,scale=balanced",
    "lpf:sigma=0.01,samples=20,scale=balanced",
    "fisher_rao",
    "shannon_entropy",
    "local_entropy_gradient:steps=10,pairs=3",
    "frobenius_norm:max_samples=20,scale=balanced",
    "top_eigenvalue:max_products=30,scale=balanced,tol=0.01",
    "ritz_sum:steps=20,scale=balanced",
    "effective_dimension:steps=20,scale=balanced",
)

# Trainings of the studies of noise, and the same on digits.
NOISY = {
    "data": "cifar10",
    "model": "resnet18",
    "optimizer": "sgd",
    "base": "sgd:lr=0.1,momentum=0.9,weight_decay=0.0005",
    "epochs": 350,
    "batch_size": 128,
    "lr_schedule": "multi_step(milestones=(150,250),factor=0.1)",
    "stop_at": "train_accuracy>=0.99",
}
NOISY_DIGITS = {
    "data": "digits",
    "train_samples": 400,
    "model": "resnet18:blocks=1,width=8",
    "base": "sgd:lr=0.05,momentum=0.9,weight_decay=0.0005",
    "epochs": 100,
    "batch_size": 32,
    "lr_schedule": "multi_step(milestones=(60,80),factor=0.1)",
}
