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

  /** Calls Flink's PythonDriver, by name so that this jar needs nothing to compile against. */
  private static void runPython(List<String> arguments, Path error) throws Exception {
    Class<?> driver = Class.forName("org.apache.flink.client.python.PythonDriver");
    try {
      driver.getMethod("main", String[].class)
          .invoke(null, (Object) arguments.toArray(String[]::new));
    } catch (InvocationTargetException e) {
      if (Files.exists(error)) {
        throw new IllegalStateException("the job was refused: " + Files.readString(error));
      }
      throw e.getCause() instanceof Exception cause ? cause : e;
    }
  }

  private static void delete(Path folder) throws IOException {
    try (Stream<Path> paths = Files.walk(folder)) {
      for (Path path : (Iterable<Path>) paths.sorted(Comparator.reverseOrder())::iterator) {
        Files.delete(path);
      }
    }
  }
}
