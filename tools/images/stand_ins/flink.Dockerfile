# In place of flink:2.2.1-java17 where no registry can be reached: Flink as PyPI's apache-flink has it (mounted
# at /wheel), a Java of Debian's modules, and an entrypoint in our own words.
ARG DEBIAN_WITH_JDK
# hadolint ignore=DL3006
FROM ${DEBIAN_WITH_JDK}
# Those of a JRE: no compiler.
ARG MODULES=java.se,jdk.charsets,jdk.crypto.cryptoki,jdk.crypto.ec,jdk.httpserver,jdk.jfr,jdk.localedata,jdk.management,jdk.management.agent,jdk.naming.dns,jdk.naming.rmi,jdk.net,jdk.nio.mapmode,jdk.sctp,jdk.security.auth,jdk.security.jgss,jdk.unsupported,jdk.xml.dom,jdk.zipfs
RUN mkdir -p /opt/java /opt/flink/log /opt/flink/licenses \
 && jlink --add-modules "$MODULES" --no-header-files --no-man-pages --output /opt/java/openjdk \
 && cp -L /etc/ssl/certs/java/cacerts /opt/java/openjdk/lib/security/cacerts \
 && cp -r /wheel/bin /wheel/conf /wheel/lib /wheel/opt /wheel/plugins /opt/flink/ \
 && touch /opt/flink/LICENSE /opt/flink/NOTICE \
 && chmod a+x /opt/flink/bin/* \
 && groupadd --gid 9999 flink \
 && useradd --home-dir /opt/flink --uid 9999 --gid 9999 flink \
 && chown -R 9999:9999 /opt/flink
USER 9999
COPY --chmod=0755 flink-entrypoint.sh /docker-entrypoint.sh
ENV FLINK_HOME=/opt/flink JAVA_HOME=/opt/java/openjdk PATH=/opt/flink/bin:/opt/java/openjdk/bin:$PATH
ENTRYPOINT ["/docker-entrypoint.sh"]
CMD ["help"]
LABEL login-blocking.stand-in=flink
