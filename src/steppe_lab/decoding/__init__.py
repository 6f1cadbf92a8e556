"""Decoding: translations of sentences, searched token by token."""

from steppe_lab.decoding.beam import BeamSearch, Hypothesis
from steppe_lab.decoding.models import NextTokens, next_tokens
from steppe_lab.decoding.translations import translations

__all__ = ["BeamSearch", "Hypothesis", "NextTokens", "next_tokens", "translations"]
