"""Probers: over HTTP to any OpenAI-compatible endpoint, and one in memory."""
