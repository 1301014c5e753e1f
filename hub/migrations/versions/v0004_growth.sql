-- Support looks a customer up, and pages through what was received.
CREATE INDEX events_customer ON events (customer_id, seq) WHERE customer_id IS NOT NULL;
