"""Tools of people who run or develop this project: the local stack, replay, demo, benchmarks."""
