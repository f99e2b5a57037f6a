"""What owners use, and how much of it they may: costs, rates, usage, prices, and results that are there already."""
