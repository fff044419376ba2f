# Keeps texts as records and groups them, over and over: index.rb FOLDER MIB SEED COUNTER.
folder, mebibytes, seed, counter = ARGV
generator = Random.new(seed.to_i)
files = Dir["#{folder}/*"].sort
Record = Struct.new(:file, :number, :words)
rounds = 0
loop do
  records = []
  read = 0
  while read * 12 < mebibytes.to_i << 20
    file = files.sample(random: generator)
    File.foreach(file).with_index do |line, number|
      line = line.scrub('?')
      records << Record.new(File.basename(file).to_sym, number, line.split)
      read += line.size
      break if read * 12 > mebibytes.to_i << 20
    end
  end
  longest = records.group_by { |record| record.words.size }.max_by { |_, all| all.size }
  rounds += 1
  File.write(counter, "#{rounds} #{records.size} #{longest[1].size}\n")
end
