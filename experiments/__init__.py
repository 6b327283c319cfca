"""One script per question or figure; each reads or makes saved results and draws from them."""
