# nocache-proxy; with `--target demo`, the legacy app of its demo instead.
#
#   docker build -t nocache-proxy .        (podman build --format docker: its own format knows no HEALTHCHECK)
#   docker run -p 8080:8080 -v ./config:/app/config:ro -e NOCACHE_PROXY_UPSTREAM=http://app:8000 nocache-proxy
#
# Mount config/ as a directory, not rules.yaml alone: a mounted file stays the old one when an editor replaces it.

# The base image is named by its digest, so that today's build can be repeated: 3.13.15 of 1 September 2026. To renew it,
# take the digest that `docker buildx imagetools inspect python:3.13-slim` shows first, or the first one in
# docker-library/repo-info, repos/python/remote/3.13-slim.md. For another base: --build-arg PYTHON_IMAGE=...
ARG PYTHON_IMAGE=python:3.13-slim@sha256:881d80734ee05dca6f7f42dcb080975652a53c7eda9ba1f03bb8da31aa6a6ec2

# The data path is compiled, which saves a third of the CPU per request; `--build-arg COMPILE=0` skips that. The compiler
# stays in this stage. Python's headers are a separate package only where Python itself comes from Debian.
FROM ${PYTHON_IMAGE} AS wheels
ARG COMPILE=1
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /src
RUN if [ "$COMPILE" = 1 ]; then \
      headers=$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))') \
      && apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev \
      && { [ -e "$headers/Python.h" ] || apt-get install -y --no-install-recommends python3-dev; }; \
    fi
# The last step that needs a network. The list is complete, build backend included: nothing is left to resolve.
COPY config/constraints.txt config/
RUN pip wheel --no-deps --require-hashes --wheel-dir /wheels --requirement config/constraints.txt
COPY pyproject.toml README.md LICENSE ./
COPY config/rules.yaml config/
COPY proxy proxy
RUN HATCH_BUILD_HOOK_ENABLE_MYPYC=$COMPILE pip wheel --no-deps --no-index --find-links /wheels --wheel-dir /wheels .

# Compile bytecode here, because the root file system is read-only later. Do not check it against the time stamps of the
# sources, because not every image builder keeps them.
FROM wheels AS proxy
RUN python3 -m venv --without-pip /opt/nocache-proxy \
 && pip --python /opt/nocache-proxy/bin/python install --no-compile --no-index --find-links /wheels nocache-proxy \
 && /opt/nocache-proxy/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/nocache-proxy/lib

FROM proxy AS proxy-with-demo
RUN pip --python /opt/nocache-proxy/bin/python install --no-compile --no-index --find-links /wheels 'nocache-proxy[demo]' \
 && /opt/nocache-proxy/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/nocache-proxy/lib

FROM ${PYTHON_IMAGE} AS demo
COPY --from=proxy-with-demo /opt/nocache-proxy /opt/nocache-proxy
ENV PATH=/opt/nocache-proxy/bin:$PATH PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001:10001
EXPOSE 8000
# Uploads go to /tmp, the only place that must be writable. gunicorn touches its control file every second, so it is in memory.
ENTRYPOINT ["gunicorn", "--config", "python:proxy.demo.gunicorn_settings", "--worker-tmp-dir", "/dev/shm", "proxy.demo.app:create_app('/tmp')"]
CMD ["--bind", "0.0.0.0:8000"]

FROM ${PYTHON_IMAGE}
COPY --from=proxy /opt/nocache-proxy /opt/nocache-proxy
WORKDIR /app
COPY config/rules.yaml config/rules.schema.json config/
# Nobody outside a container can reach its loopback, so listen on all addresses. Do not publish the admin port.
ENV PATH=/opt/nocache-proxy/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    NOCACHE_PROXY_LISTEN=0.0.0.0:8080 \
    NOCACHE_PROXY_ADMIN=0.0.0.0:9901 \
    NOCACHE_PROXY_RULES=/app/config/rules.yaml
USER 10001:10001
# Not the admin port: `docker run -P` would publish it.
EXPOSE 8080
STOPSIGNAL SIGTERM
# This reports readiness. If your engine restarts unhealthy containers, use "healthcheck --live" instead.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["nocache-proxy", "healthcheck"]
ENTRYPOINT ["nocache-proxy"]
CMD ["serve"]
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="nocache-proxy" \
      org.opencontainers.image.description="A reverse-proxy sidecar that keeps every cache from reusing the responses you name" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
