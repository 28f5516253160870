"""The feedback store's parts: tables, transactions, what was said, which judgements may train, export."""
