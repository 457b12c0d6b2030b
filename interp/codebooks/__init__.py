"""Codebook features: vector-quantised bottlenecks placed inside a model and finetuned with it.

Source: Tamkin, Taufeeque & Goodman 2023, "Codebook Features: Sparse and Discrete Interpretability for Neural Networks".
"""
