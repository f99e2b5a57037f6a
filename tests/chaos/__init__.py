"""The kill test: many jobs through RabbitMQ, PostgreSQL, S3 and webhooks, and everything dies again and again meanwhile.

python -m tests.chaos [--jobs 300] [--kills 20] [--seed 1]      (make chaos)
"""
