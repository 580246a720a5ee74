# One image for the web process, the workers and `flask db upgrade`; compose.yaml shows how they go together.
FROM python:3.11-slim-bookworm AS packages
WORKDIR /srv/lading
COPY requirements.txt ./
RUN python3 -m venv /opt/venv
RUN /opt/venv/bin/python -m pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements.txt

FROM python:3.11-slim-bookworm
WORKDIR /srv/lading
COPY --from=packages /opt/venv /opt/venv
COPY . ./
# Where data lie that no setting puts elsewhere. Anybody may write there, so that the image runs under whatever user it is given.
RUN install -d -m 1777 var
ENV PATH=/opt/venv/bin:/usr/local/bin:/usr/bin:/bin PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PORT=8000
# A number, since some platforms want to see that it is not root's.
USER 10001:10001
VOLUME /srv/lading/var
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s CMD ["python", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
# gunicorn must be the process that SIGTERM reaches, so no shell stands before it.
CMD ["gunicorn", "wsgi:app"]
