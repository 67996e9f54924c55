"""Reward models over HTTP: rewards, tastes that grow with answers, and pages to try them."""
