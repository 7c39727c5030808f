"""Who may do what: tokens and roles, addresses, rates, and the keys of encrypted connections."""
