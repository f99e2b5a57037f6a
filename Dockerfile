# syntax=docker/dockerfile:1
# For a GPU:      docker build --build-arg BASE_IMAGE=nvidia/cuda:13.0.1-runtime-ubuntu24.04 -t atelier .
# Without one:    docker build -t atelier .
# Run:            docker run -p 9000:9000 -p 8001:8001 -v atelier:/data -e ATELIER_TOKENS=me:a-token-of-16-or-more -e ATELIER_ALLOW_PLAINTEXT=true atelier
#                 (plain text only behind something that encrypts; else mount keys and set ATELIER_TCP_LISTEN and
#                 ATELIER_HTTP_LISTEN to ssl:…)
# No secret is in the image: tokens and keys come from the environment when it runs.
ARG BASE_IMAGE=debian:12-slim

FROM ${BASE_IMAGE} AS build
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends python3 python3-venv python3-pip \
 && rm -rf /var/lib/apt/lists/*
RUN python3 -m venv /opt/atelier/.venv
WORKDIR /opt/atelier
COPY requirements.txt ./
RUN .venv/bin/pip install --no-cache-dir -r requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY ai ai
COPY atelier atelier
COPY bot bot
COPY config config
COPY factory factory
COPY models models
COPY proto proto
COPY server server
COPY watermark watermark
RUN .venv/bin/pip install --no-cache-dir --no-deps --editable . \
 && .venv/bin/python -m compileall -q ai atelier bot config factory proto server watermark

FROM ${BASE_IMAGE}
# fonts-nanum has Hangul, fonts-noto-color-emoji has emoji: what artists sign with
RUN apt-get update \
 && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
      python3 fonts-dejavu-core fonts-nanum fonts-noto-color-emoji tini \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --system --uid 10001 --home-dir /data atelier \
 && mkdir -p /data && chown atelier: /data
COPY --from=build /opt/atelier /opt/atelier
ENV PATH=/opt/atelier/.venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    OMP_WAIT_POLICY=passive \
    ATELIER_TCP_LISTEN=tcp:9000:interface=0.0.0.0 \
    ATELIER_HTTP_LISTEN=tcp:8001:interface=0.0.0.0 \
    ATELIER_DATA_DIR=/data \
    ATELIER_LOG_FORMAT=json
WORKDIR /data
VOLUME /data
EXPOSE 8001 9000
USER atelier
# Asks for the status as any client would; give ATELIER_TOKEN (one of the tokens) where ATELIER_TOKENS is set.
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 CMD ["atelier", "status", "--json"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["tini", "--", "atelier"]
CMD ["serve"]
