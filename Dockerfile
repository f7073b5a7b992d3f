FROM python:3.13-slim AS builder
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements.txt requirements-build.txt ./
RUN pip install --requirement requirements-build.txt \
    && python -m venv --without-pip /opt/sidecar \
    && pip --python /opt/sidecar/bin/python install --requirement requirements.txt
COPY pyproject.toml README.md LICENSE ./
COPY sidecar sidecar
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels . \
    && pip --python /opt/sidecar/bin/python install --no-deps /wheels/*.whl \
    && pip --python /opt/sidecar/bin/python check

FROM python:3.13-slim
RUN pip uninstall --yes --quiet --root-user-action ignore pip \
    && groupadd --gid 10001 sidecar \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/sidecar --shell /usr/sbin/nologin sidecar \
    && install --directory --mode 0700 --owner 10001 --group 10001 /var/lib/sidecar
COPY --from=builder /opt/sidecar /opt/sidecar
COPY config/container.toml /etc/sidecar/sidecar.toml
# The store's default is below the working directory, and so in the volume.
ENV PATH=/opt/sidecar/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    SIDECAR_CONFIG=/etc/sidecar/sidecar.toml
WORKDIR /var/lib/sidecar
VOLUME /var/lib/sidecar
EXPOSE 9000
# By number, so that Kubernetes can see that it is not root.
USER 10001:10001
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["sidecar", "health"]
ENTRYPOINT ["sidecar"]
CMD ["serve"]
