# Keeps word pairs of texts in hashes, over and over: index.pl FOLDER MIB SEED COUNTER.
use strict;
use warnings;

my ($folder, $mebibytes, $seed, $counter) = @ARGV;
srand $seed;
my @files = sort glob "$folder/*";
my (%follows, $rounds);
while (1) {
    my $read = 0;
    %follows = () if $rounds++ % 3 == 0;
    while ($read * 7 < $mebibytes << 20) {
        my $file = $files[rand @files];
        open my $in, '<', $file or die "$file: $!";
        my $last = '';
        while (my $line = <$in>) {
            for my $word ($line =~ /[A-Za-z]{3,}/g) {
                $follows{lc $last}{lc $word}++;
                $last = $word;
            }
            $read += length $line;
            last if $read * 7 > $mebibytes << 20;
        }
        close $in;
    }
    my @busiest = (sort { keys %{ $follows{$b} } <=> keys %{ $follows{$a} } } keys %follows)[0 .. 99];
    my $text = join ' ', map { my $w = $_; $w . ':' . join ',', sort keys %{ $follows{$w} } } @busiest;
    open my $out, '>', $counter or die "$counter: $!";
    print $out "$rounds ", length $text, "\n";
    close $out;
}
