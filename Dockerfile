# An image that labels photos without torch: docs/install.md says how to build and run it.
# tests/test_dockerfile.py runs these commands in fresh environments, so paths in RUN are relative to WORKDIR.
FROM python:3.11-slim AS build
# The index from which pip takes torch, where it is another than usual: one with builds for CPUs saves 5 GB.
ARG TORCH_INDEX=
ARG MODEL=efficientnet_lite0
WORKDIR /app
COPY constraints.txt setup.cfg pyproject.toml README.md LICENSE ./
COPY jobs jobs
COPY models models
COPY pipeline pipeline
RUN pip install --no-cache-dir ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} torch==2.14.1 torchvision==0.29.1
RUN pip install --no-cache-dir --constraint constraints.txt .
RUN pip wheel --no-cache-dir --no-deps --wheel-dir wheels .
RUN label-models export "$MODEL" model.onnx

FROM python:3.11-slim
WORKDIR /app
COPY requirements-runner.txt ./
# More packages for the image: obstore==0.12.1, where photos or parts lie in an object store.
ARG PACKAGES=
RUN pip install --no-cache-dir --requirement requirements-runner.txt $PACKAGES
COPY --from=build /app/wheels wheels
RUN pip install --no-cache-dir --no-deps wheels/*.whl
COPY --from=build /app/model.onnx ./
# Measurements of this CPU are kept here: a volume saves the next container a second.
RUN mkdir -m 1777 cache
ENV XDG_CACHE_HOME=/app/cache LABEL_DIR_MODEL=/app/model.onnx
USER 1000
ENTRYPOINT ["label-dir"]
CMD ["--help"]
