"""A job's life: admission (may it exist), lifecycle (what becomes of it), finishing (its pictures), board (who follows it)."""
