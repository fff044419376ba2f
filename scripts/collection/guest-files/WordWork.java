import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Comparator;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.stream.Collectors;
import java.util.stream.Stream;

/** Maps and reduces texts on the heap, over and over: WordWork FOLDER MIB SEED COUNTER. */
public final class WordWork {
    record Place(int file, int line, String word) {}

    public static void main(String[] arguments) throws IOException {
        long limit = Long.parseLong(arguments[1]) << 20;
        Random random = new Random(Long.parseLong(arguments[2]));
        Path counter = Path.of(arguments[3]);
        List<Path> files;
        try (Stream<Path> listed = Files.list(Path.of(arguments[0]))) {
            files = listed.sorted().collect(Collectors.toList());
        }
        Map<Integer, List<Place>> kept = new HashMap<>();
        long held = 0;
        for (int round = 1; ; round++) {
            // each round drops an eighth of what is held and reads as much again
            int drop = round % 8;
            List<Place> old = kept.remove(drop);
            held -= old == null ? 0 : old.size();
            List<Place> places = new ArrayList<>();
            // a place takes some 90 bytes on the heap
            while (places.size() * 90L < limit / 10) {
                int file = random.nextInt(files.size());
                List<String> lines =
                    Files.readAllLines(files.get(file), StandardCharsets.ISO_8859_1);
                for (int line = 0; line < lines.size(); line++) {
                    for (String word : lines.get(line).split("[^A-Za-z]+")) {
                        if (word.length() > 3) {
                            places.add(new Place(file, line, word));
                        }
                    }
                    if (places.size() * 90L > limit / 10) {
                        break;
                    }
                }
            }
            kept.put(drop, places);
            held += places.size();
            Map<String, Long> counts = places.stream()
                .collect(Collectors.groupingBy(Place::word, Collectors.counting()));
            String common = counts.entrySet().stream()
                .sorted(Map.Entry.comparingByValue(Comparator.reverseOrder()))
                .limit(20)
                .map(Map.Entry::toString)
                .collect(Collectors.joining(" "));
            Files.writeString(counter, round + " " + held + " " + common + "\n");
        }
    }
}
