# bebert-infer in a container: docker build -t bebert . && docker run --rm --read-only bebert demo
# The first stage compiles the kernels for every machine of its architecture; a compiler never reaches the second.
FROM python:3.13-slim AS build
WORKDIR /source
COPY . .
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN BEBERT_TARGETS="$(uname -m)" pip wheel --no-deps --wheel-dir /wheel .

# Installed in one step, without caches: what a layer deletes of an earlier one stays in the image.
FROM python:3.13-slim
RUN --mount=type=bind,from=build,source=/wheel,target=/wheel \
    --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    pip install --no-cache-dir --no-compile --disable-pip-version-check --constraint /constraints.txt /wheel/*.whl \
    && useradd --no-create-home --shell /usr/sbin/nologin bebert
USER bebert
# Nothing is written: kernels are compiled ahead. A folder for measured choices of kernels may be mounted.
ENV PYTHONDONTWRITEBYTECODE=1
ENTRYPOINT ["bebert"]
CMD ["--help"]
