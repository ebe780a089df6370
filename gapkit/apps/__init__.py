"""Applications: settings, one function that runs, a result with units, and a toy whose answer is known."""
