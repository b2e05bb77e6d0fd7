# syntax=docker/dockerfile:1
# Trains without a display (docs/installation.md). TORCH_INDEX is a further index for pip: empty for PyTorch with CUDA;
# for a CPU image, the index that PyTorch's installation page names for CPUs.
FROM python:3.12-slim-bookworm

# OpenGL on CPUs (Mesa) and the loader of the GPU's EGL; git records the commit of a run, g++ serves runtime=compile
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++ git libegl1 libgl1-mesa-dri libosmesa6 \
    && rm -rf /var/lib/apt/lists/*

COPY . /opt/drq_sn
ARG TORCH_INDEX=
ARG PIXELS=published
RUN --mount=type=cache,target=/root/.cache/pip \
    PIP_EXTRA_INDEX_URL="$TORCH_INDEX" python /opt/drq_sn/tools/setup_venv.py /opt/venv "$PIXELS"

# graphics: the container toolkit mounts the GPU driver's EGL; HOME: caches of users without a home directory
ENV PATH="/opt/venv/bin:$PATH" HOME=/tmp NVIDIA_DRIVER_CAPABILITIES=compute,utility,graphics
RUN useradd --uid 1000 --create-home --home-dir /data trainer
USER 1000
WORKDIR /data
ENTRYPOINT ["drq-sn"]
CMD ["--help"]
