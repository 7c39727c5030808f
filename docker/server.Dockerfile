# The planning service. Build from the repository's root:
#   docker build -f docker/server.Dockerfile -t vjepa-planner-server .
# torch's wheels bring the CUDA libraries they were built with and the host brings the driver
# (`docker run --gpus all`), so the base needs nothing of CUDA.
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 planner \
    && install -d -o planner /weights /state

WORKDIR /app
COPY . .
RUN bash docker/install.sh server

USER planner
# Weights are mounted, never baked in; without any the shipped small model is served.
VOLUME ["/weights", "/state"]
ENV PLANNER_DATA_DIR=/state \
    PLANNER_ZMQ_ENDPOINT=tcp://0.0.0.0:5555
EXPOSE 8000 5555
HEALTHCHECK --interval=10s --timeout=3s --start-period=180s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/readyz', timeout=2)"]
# Beyond loopback the service refuses to start without PLANNER_TOKEN or PLANNER_TOKENS_FILE.
CMD ["uvicorn", "planner_server.app:app", "--host", "0.0.0.0", "--port", "8000"]
