"""Submits the detector's job to a Flink cluster by REST, upgrades it, stops it and watches it.

Needs only `requests`: it runs in the Flink image, in an operator's shell and in the tools alike.
"""
