import java.io.IOException;
import java.io.File;
import java.lang.reflect.Field;
import java.lang.reflect.Modifier;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.TreeSet;
import java.util.jar.JarFile;
import java.util.regex.Pattern;
import org.apache.flink.configuration.ConfigOption;
import org.apache.flink.configuration.Configuration;
import org.apache.flink.configuration.FallbackKey;
import org.apache.flink.configuration.GlobalConfiguration;
import org.apache.flink.configuration.MemorySize;
import org.apache.flink.runtime.clusterframework.TaskExecutorProcessUtils;
import org.apache.flink.runtime.jobmanager.JobManagerProcessUtils;

/**
 * Says what is wrong in folders with a {@code config.yaml} each: keys that this Flink does not know, values
 * that it cannot read, memory that does not add up. Keys beginning with one of the prefixes given by
 * {@code -Dforeign=a.,b.} are somebody else's.
 *
 * <p>Run as a source file with Flink's jars on the class path; prints a line for each fault.
 */
public final class FlinkSettings {
  /** Named by a prefix and free words: {@code metrics.reporter.<name>.<option>}. */
  private static final Pattern REPORTER = Pattern.compile("metrics\\.reporter\\.\\w+\\.(factory\\.class|port|interval|scope\\..*|filter\\..*)");

  private FlinkSettings() {}

  public static void main(String[] folders) throws Exception {
    Map<String, ConfigOption<?>> known = knownOptions();
    System.out.println("known " + known.size());
    String[] foreign = System.getProperty("foreign", "").split(",");
    for (String folder : folders) {
      Configuration configuration = GlobalConfiguration.loadConfiguration(folder);
      for (String key : new TreeSet<>(configuration.keySet())) {
        ConfigOption<?> option = known.get(key);
        if (option != null) {
          checkValue(folder, configuration, key, option);
        } else if (!REPORTER.matcher(key).matches() && !startsWithAny(key, foreign)) {
          System.out.println("fault " + folder + ": " + key + ": this Flink knows no such key");
        }
      }
      checkMemory(folder, configuration);
    }
  }

  private static void checkValue(String folder, Configuration configuration, String key, ConfigOption<?> option) {
    try {
      configuration.get(option);
    } catch (RuntimeException e) {
      Throwable cause = e.getCause() == null ? e : e.getCause();
      System.out.println("fault " + folder + ": " + key + ": " + cause.getMessage());
    }
  }

  private static void checkMemory(String folder, Configuration configuration) {
    try {
      MemorySize heap = TaskExecutorProcessUtils.processSpecFromConfig(configuration).getTaskHeapSize();
      System.out.println("heap " + folder + ": TaskManager " + heap.toHumanReadableString());
      heap = JobManagerProcessUtils.processSpecFromConfig(configuration).getJvmHeapMemorySize();
      System.out.println("heap " + folder + ": JobManager " + heap.toHumanReadableString());
    } catch (RuntimeException e) {
      System.out.println("fault " + folder + ": memory: " + e.getMessage());
    }
  }

  private static boolean startsWithAny(String key, String[] prefixes) {
    for (String prefix : prefixes) {
      if (!prefix.isEmpty() && key.startsWith(prefix)) {
        return true;
      }
    }
    return false;
  }

  /** Every option that a class of Flink declares, by its key and by its older names. */
  private static Map<String, ConfigOption<?>> knownOptions() throws IOException {
    Map<String, ConfigOption<?>> known = new TreeMap<>();
    for (String entry : System.getProperty("java.class.path").split(File.pathSeparator)) {
      Path jar = Path.of(entry);
      if (!Files.isRegularFile(jar) || !jar.getFileName().toString().startsWith("flink-")) {
        continue;
      }
      for (String name : optionClasses(jar)) {
        addOptionsOf(name, known);
      }
    }
    return known;
  }

  private static List<String> optionClasses(Path file) throws IOException {
    List<String> names = new ArrayList<>();
    try (JarFile jar = new JarFile(file.toFile())) {
      jar.stream().map(it -> it.getName())
          .filter(it -> it.startsWith("org/apache/flink/") && it.matches(".*(Options|Configs?|ConfigOptions)(Internal)?\\.class"))
          .forEach(it -> names.add(it.replace('/', '.').replace(".class", "")));
    }
    return names;
  }

  private static void addOptionsOf(String name, Map<String, ConfigOption<?>> known) {
    try {
      Class<?> type = Class.forName(name, true, FlinkSettings.class.getClassLoader());
      for (Field field : type.getDeclaredFields()) {
        if (Modifier.isStatic(field.getModifiers()) && field.getType() == ConfigOption.class) {
          field.setAccessible(true);
          ConfigOption<?> option = (ConfigOption<?>) field.get(null);
          known.put(option.key(), option);
          for (FallbackKey older : option.fallbackKeys()) {
            known.putIfAbsent(older.getKey(), option);
          }
        }
      }
    } catch (ReflectiveOperationException | LinkageError e) {
      // A class that leans on what is not here (Hadoop, say) has no options of ours.
    }
  }
}
