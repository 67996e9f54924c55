"""The drawn sample of Pick-a-Filter: pictures that the program draws, and people that it simulates."""
