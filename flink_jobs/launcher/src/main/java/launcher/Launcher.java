package launcher;

import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Comparator;
import java.util.List;
import java.util.jar.JarEntry;
import java.util.jar.JarFile;
import java.util.stream.Stream;
import java.util.zip.ZipEntry;
import java.util.zip.ZipOutputStream;

/**
 * Starts the Python job that this jar carries below {@code job/}.
 *
 * <p>Flink's web UI drops program arguments, and PyFlink's driver without arguments ends the
 * JobManager; so this class writes the sources to a zip and hands the driver its arguments.
 */
public final class Launcher {
  private static final String PREFIX = "job/";

  private static volatile Object environment;

  private Launcher() {}

  public static void main(String[] arguments) throws Exception {
    Path folder = Files.createTempDirectory("block-detector");
    try {
      Path sources = folder.resolve("job.zip");
      Path error = folder.resolve("error.txt");
      writeSources(sources);
      runPython(List.of(
          "-pyfs", sources.toString(), "-pym", "flink_jobs.block_detector", error.toString()), error);
    } finally {
      delete(folder);
    }
  }

  /**
   * The environment of this submission, for flink_jobs/preflight.py: each submission has a class
   * loader, and so a launcher class, of its own.
   */
  public static Object environment() {
    return environment;
  }

  private static void writeSources(Path target) throws IOException {
    Path self;
    try {
      self = Path.of(Launcher.class.getProtectionDomain().getCodeSource().getLocation().toURI());
    } catch (java.net.URISyntaxException e) {
      throw new IOException("cannot find the job's own jar", e);
    }
    try (JarFile jar = new JarFile(self.toFile());
        ZipOutputStream zip = new ZipOutputStream(Files.newOutputStream(target))) {
      for (JarEntry entry : (Iterable<JarEntry>) jar.stream()::iterator) {
        if (entry.isDirectory() || !entry.getName().startsWith(PREFIX)) {
          continue;
        }
        zip.putNextEntry(new ZipEntry(entry.getName().substring(PREFIX.length())));
        try (InputStream content = jar.getInputStream(entry)) {
          content.transferTo(zip);
        }
        zip.closeEntry();
      }
    }
  }

  /**
   * Calls Flink's PythonDriver, by name so that this jar needs nothing to compile against.
   *
   * <p>One submission at a time: a JobManager keeps the Python gateway in a static field, so that of
   * two at once each may get the other's. The driver's class is the lock that they share. The
   * environment that Python would find is static too, and the next submission sets it before it
   * comes here: so this thread's own is handed over.
   */
  private static void runPython(List<String> arguments, Path error) throws Exception {
    Class<?> driver = Class.forName("org.apache.flink.client.python.PythonDriver");
    environment =
        Class.forName("org.apache.flink.streaming.api.environment.StreamExecutionEnvironment")
            .getMethod("getExecutionEnvironment")
            .invoke(null);
    synchronized (driver) {
      try {
        driver.getMethod("main", String[].class)
            .invoke(null, (Object) arguments.toArray(String[]::new));
      } catch (InvocationTargetException e) {
        if (Files.exists(error)) {
          throw refusal(Files.readString(error));
        }
        throw e.getCause() instanceof Exception cause ? cause : e;
      }
    }
  }

  /** Stands out between the web UI's stack traces, and adds none. */
  private static Exception refusal(String why) {
    Exception refused = new IllegalStateException("\n\nthe job was refused: " + why.strip() + "\n");
    refused.setStackTrace(new StackTraceElement[0]);
    return refused;
  }

  private static void delete(Path folder) throws IOException {
    try (Stream<Path> paths = Files.walk(folder)) {
      for (Path path : (Iterable<Path>) paths.sorted(Comparator.reverseOrder())::iterator) {
        Files.delete(path);
      }
    }
  }
}
