"""The RabbitMQ door: a backend publishes jobs to a queue, and a delivery is acknowledged when its job has ended.

`connection` alone imports pika. `broker` says, without it, what the rest asks of a connection.
"""
