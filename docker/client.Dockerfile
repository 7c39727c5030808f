# The robot client: no torch, no web framework. Build from the repository's root:
#   docker build -f docker/client.Dockerfile -t vjepa-planner-client .
#   docker build -f docker/client.Dockerfile --build-arg EXTRA=sim -t vjepa-planner-sim .   # with a simulated arm
FROM python:3.11-slim-bookworm@sha256:a36c24f9cbdf4fd0f52d67f0823eeac19c2028c637cecc392d97f980d4fec56b

ARG EXTRA=client
# OpenCV's two libraries; a simulated arm renders in software and needs Mesa besides.
RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libglib2.0-0 libegl1 libgl1-mesa-dri libosmesa6 \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --create-home --uid 10001 robot \
    && install -d -o robot /runs

WORKDIR /app
COPY . .
RUN bash docker/install.sh "$EXTRA"

USER robot
WORKDIR /runs
ENV MUJOCO_GL=egl
ENTRYPOINT ["robot-client"]
CMD ["--help"]
