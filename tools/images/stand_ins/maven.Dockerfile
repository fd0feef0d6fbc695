# In place of maven:3.9-eclipse-temurin-17 where no registry can be reached: Debian's JDK 17 and Maven.
ARG DEBIAN_WITH_PYTHON
# hadolint ignore=DL3006
FROM ${DEBIAN_WITH_PYTHON}
# hadolint ignore=DL3008
RUN apt-get -qq update \
 && DEBIAN_FRONTEND=noninteractive apt-get -qq install --yes --no-install-recommends maven openjdk-17-jdk-headless \
 && rm -rf /var/lib/apt/lists/* /var/cache/apt/archives/*.deb
LABEL login-blocking.stand-in=maven
